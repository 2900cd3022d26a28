// A client that uses libQuotient, the library of NeoChat and Quaternion. It adds two
// numbers to an account: one with the requests of current clients, and one with those of
// specification r0.5. For each job, it prints a line with its name and its result. When it
// needs the code of the last SMS, it prints "code" and reads it from standard input.
//
//	main URL ACCESS_TOKEN

#include <connectiondata.h>
#include <csapi/administrative_contact.h>

#include <QtCore/QCoreApplication>
#include <QtCore/QEventLoop>
#include <QtCore/QJsonObject>
#include <QtCore/QTimer>

#include <iostream>
#include <string>

using namespace Quotient;

// SubmitTokenJob posts a code to a submit_url, for which the library has no job.
class SubmitTokenJob : public BaseJob {
public:
    SubmitTokenJob(const QString& submitUrl, const QString& sid, const QString& clientSecret, const QString& token)
        : BaseJob(HttpVerb::Post, QStringLiteral("SubmitTokenJob"), QUrl(submitUrl).path(), false)
    {
        setRequestData(Data(QJsonObject { { "sid", sid }, { "client_secret", clientSecret }, { "token", token } }));
    }
};

static ConnectionData* connection;

// run waits for a job's result and prints it. After a rate limit, the library repeats the
// request by itself.
template <typename JobT>
static JobT* run(const char* step, JobT* job)
{
    QEventLoop loop;
    bool limited = false;
    QObject::connect(job, &BaseJob::rateLimited, [&limited, step] {
        if (!limited)
            std::cout << step << ": rate limited" << std::endl;
        limited = true;
    });
    QObject::connect(job, &BaseJob::retryScheduled, [step] { std::cout << step << ": retry" << std::endl; });
    QObject::connect(job, &BaseJob::result, &loop, &QEventLoop::quit);
    job->initiate(connection, false);
    loop.exec();
    std::cout << step << ": ";
    if (job->error() == BaseJob::Success)
        std::cout << "ok";
    else
        std::cout << "error " << job->error() << " " << job->jsonData().value("errcode").toString().toStdString() << ": "
                  << job->status().message.toStdString();
    std::cout << std::endl;
    return job;
}

static MsisdnValidationData number(const QString& secret, const QString& phoneNumber, int attempt)
{
    MsisdnValidationData data;
    data.clientSecret = secret;
    data.country = "GB";
    data.phoneNumber = phoneNumber;
    data.sendAttempt = attempt;
    return data;
}

static QString code()
{
    std::cout << "code" << std::endl;
    std::string line;
    std::getline(std::cin, line);
    return QString::fromStdString(line);
}

static void list()
{
    for (const auto& n : run("list", new GetAccount3PIDsJob)->threepids())
        std::cout << "  " << n.medium.toStdString() << " " << n.address.toStdString() << std::endl;
}

static void current()
{
    run("request for an invalid number", new RequestTokenTo3PIDMSISDNJob(number("current", "12", 1)));
    run("request", new RequestTokenTo3PIDMSISDNJob(number("current", "07700 900001", 1)));
    const auto response = run("resend", new RequestTokenTo3PIDMSISDNJob(number("current", "07700 900001", 2)))->response();
    run("add too early", new Add3PIDJob("current", response.sid));
    run("submit a wrong code", new SubmitTokenJob(response.submitUrl, response.sid, "current", "nonsense"));
    run("submit", new SubmitTokenJob(response.submitUrl, response.sid, "current", code()));
    run("add", new Add3PIDJob("current", response.sid));
    list();
    run("request for a number in use", new RequestTokenTo3PIDMSISDNJob(number("another", "07700 900001", 1)));
    run("bind", new Bind3PIDJob("current", "id.example.org", "token", response.sid));
    run("delete", new Delete3pidFromAccountJob("msisdn", "447700900001"));
    list();
}

static void legacy()
{
    auto data = number("legacy", "07700 900002", 1);
    data.idServer = "id.example.org";
    const auto response = run("legacy request", new RequestTokenTo3PIDMSISDNJob(data))->response();
    const Post3PIDsJob::ThreePidCredentials credentials { "legacy", "id.example.org", {}, response.sid };
    run("legacy add too early", new Post3PIDsJob(credentials));
    run("legacy submit", new SubmitTokenJob(response.submitUrl, response.sid, "legacy", code()));
    run("legacy add", new Post3PIDsJob(credentials));
    list();
}

int main(int argc, char** argv)
{
    QCoreApplication app(argc, argv);
    if (argc != 3)
        return 2;
    connection = new ConnectionData(QUrl(argv[1]));
    connection->setToken(argv[2]);
    current();
    legacy();
    return 0;
}
