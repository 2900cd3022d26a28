// The requests of Element and similar clients: matrix-js-sdk against the example, which
// mounts the endpoints at the base path of a Matrix homeserver.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import test, { after, before } from 'node:test';
import { ConnectionError, createClient, HTTPError, MatrixError } from 'matrix-js-sdk';
import { startServer } from './server.mjs';

let server; // has limits
let open; // has none
before(async () => {
  const mounted = ['-base-path', '/_matrix/client/v3'];
  [server, open] = await Promise.all([startServer(...mounted), startServer(...mounted, '-limits', 'off')]);
});
after(() => Promise.all([server.stop(), open.stop()]));

// calls lists the calls and their results. It is printed at the end.
const calls = [];
after(() => console.log(`\n| call | result |\n| --- | --- |\n${calls.join('\n')}\n`));

// user returns a client that records its calls. By default, it has a new guest account.
function user(at, accessToken = randomBytes(32).toString('base64url')) {
  const client = createClient({ baseUrl: at.url, accessToken, userId: '@guest:example.org' });
  return new Proxy(client, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return async (...args) => {
        const said = args.map((arg) => (typeof arg === 'object' ? '{…}' : String(arg).slice(0, 16))).join(', ');
        try {
          const result = await value.apply(target, args);
          calls.push(`| \`${String(name)}(${said})\` | ${Object.keys(result).join(', ') || '{}'} |`);
          return result;
        } catch (error) {
          calls.push(`| \`${String(name)}(${said})\` | ${error.constructor.name} ${error.httpStatus ?? ''} ${error.errcode ?? ''} |`);
          throw error;
        }
      };
    },
  });
}

const secret = () => randomBytes(16).toString('hex');

// refused expects promise to reject with a MatrixError.
async function refused(promise, status, errcode) {
  const error = await promise.then(() => assert.fail('the request was not refused'), (e) => e);
  assert.ok(error instanceof MatrixError && error instanceof HTTPError, `${error}`);
  assert.equal(error.httpStatus, status);
  assert.equal(error.errcode, errcode);
  assert.ok(error.data.error, 'the error has no sentence for the user');
  return error;
}

test('a number is added to an account, and removed', async () => {
  const alice = user(open);
  const clientSecret = secret();
  const asked = await alice.requestAdd3pidMsisdnToken('GB', '07400 123401', clientSecret, 1);
  assert.equal(asked.msisdn, '447400123401');
  assert.equal(asked.intl_fmt, '+44 7400 123401');
  assert.equal(asked.submit_url, `${open.url}/_matrix/client/v3/account/3pid/msisdn/submitToken`);

  await refused(alice.addThreePidOnly({ sid: asked.sid, client_secret: clientSecret }), 400, 'M_THREEPID_AUTH_FAILED');
  await refused(alice.submitMsisdnTokenOtherUrl(asked.submit_url, asked.sid, clientSecret, '000000x'), 400, 'M_TOKEN_INCORRECT');
  const [code] = await open.texts('+447400123401', 1);
  assert.deepEqual(await alice.submitMsisdnTokenOtherUrl(asked.submit_url, asked.sid, clientSecret, code), { success: true });
  assert.deepEqual(await alice.addThreePidOnly({ sid: asked.sid, client_secret: clientSecret }), {});

  const { threepids } = await alice.getThreePids();
  assert.equal(threepids.length, 1);
  assert.equal(threepids[0].medium, 'msisdn');
  assert.equal(threepids[0].address, '447400123401');
  for (const at of [threepids[0].validated_at, threepids[0].added_at]) assert.ok(Math.abs(at - Date.now()) < 60_000);

  const taken = await refused(user(open).requestAdd3pidMsisdnToken('GB', '+447400123401', secret(), 1), 400, 'M_THREEPID_IN_USE');
  assert.equal(taken.data.error, 'MSISDN is already in use');
  await refused(user(open).requestRegisterMsisdnToken('GB', '07400123401', secret(), 1), 400, 'M_THREEPID_IN_USE');

  assert.deepEqual(await alice.deleteThreePid('msisdn', '447400123401'), { id_server_unbind_result: 'no-support' });
  assert.deepEqual(await alice.getThreePids(), { threepids: [] });
});

test('a code for registration, with the values of send_attempt that Element uses', async () => {
  const client = user(open);
  const clientSecret = secret();
  const first = await client.requestRegisterMsisdnToken('DE', '01512 3456789', clientSecret, 0, 'https://app.example.org/done');
  const again = await client.requestRegisterMsisdnToken('DE', '01512 3456789', clientSecret, 0);
  assert.equal(again.sid, first.sid);
  const more = await client.requestRegisterMsisdnToken('DE', '01512 3456789', clientSecret, 1);
  assert.equal(more.sid, first.sid);
  const codes = await open.texts('+4915123456789', 2);
  assert.equal(codes.length, 2, 'not one SMS per attempt');
  assert.equal(codes[0], codes[1]);
  assert.deepEqual(await client.submitMsisdnTokenOtherUrl(first.submit_url, first.sid, clientSecret, codes[0]), { success: true });
});

test('resetting a password needs a number that has an account', async () => {
  const alice = user(open);
  await refused(alice.requestPasswordMsisdnToken('GB', '07400123402', secret(), 1), 400, 'M_THREEPID_NOT_FOUND');
  const clientSecret = secret();
  const asked = await alice.requestAdd3pidMsisdnToken('GB', '07400123402', clientSecret, 1);
  const [code] = await open.texts('+447400123402', 1);
  await alice.submitMsisdnTokenOtherUrl(asked.submit_url, asked.sid, clientSecret, code);
  await alice.addThreePidOnly({ sid: asked.sid, client_secret: clientSecret });
  assert.ok((await alice.requestPasswordMsisdnToken('GB', '07400123402', secret(), 1)).sid);
});

test('a limit causes a rate-limit error with the time to wait', async () => {
  const client = user(server);
  const clientSecret = secret();
  let error;
  for (let attempt = 1; !error && attempt < 20; attempt += 1) {
    await client.requestAdd3pidMsisdnToken('GB', '07400123403', clientSecret, attempt).catch((e) => { error = e; });
  }
  await refused(Promise.reject(error), 429, 'M_LIMIT_EXCEEDED');
  assert.ok(error.isRateLimitError());
  const wait = error.getRetryAfterMs();
  assert.ok(wait > 0 && wait % 1000 === 0 && wait >= error.data.retry_after_ms, `${wait}, ${error.data.retry_after_ms}`);
});

test('an invalid request causes a MatrixError with its errcode', async () => {
  const client = user(open);
  await refused(client.requestAdd3pidMsisdnToken('GB', 'not a number', secret(), 1), 400, 'M_INVALID_PARAM');
  await refused(client.requestAdd3pidMsisdnToken('gb', '07400123404', secret(), 1), 400, 'M_INVALID_PARAM');
  await refused(client.requestAdd3pidMsisdnToken('GB', '07400123404', 'a secret', 1), 400, 'M_INVALID_PARAM');
  await refused(client.requestAdd3pidMsisdnToken('GB', '07400123404', undefined, 1), 400, 'M_MISSING_PARAM');
  await refused(client.requestAdd3pidMsisdnToken('GB', '09012345678', secret(), 1), 403, 'M_THREEPID_DENIED');
  const submit = `${open.url}/_matrix/client/v3/account/3pid/msisdn/submitToken`;
  await refused(client.submitMsisdnTokenOtherUrl(submit, 'nosuchsid', secret(), '123456'), 400, 'M_INVALID_PARAM');
  await refused(user(open, 'not a token').getThreePids(), 401, 'M_UNKNOWN_TOKEN');
  await refused(user(open, '').getThreePids(), 401, 'M_MISSING_TOKEN');
});

test('an unreachable server causes a ConnectionError', async () => {
  const gone = user({ url: 'http://127.0.0.1:1' });
  await assert.rejects(gone.requestAdd3pidMsisdnToken('GB', '07400123405', secret(), 1), ConnectionError);
});
