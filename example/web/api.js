// What the page asks of the server. Every answer is an object; what went wrong is
// a Failure with words for a person.

export class Failure extends Error {
  constructor(message, { errcode = '', retryAfter = 0 } = {}) {
    super(message);
    this.errcode = errcode;
    this.retryAfter = retryAfter; // milliseconds; 0: not said
  }
}

const requestTimeout = 30_000; // a text may take ten seconds, and wait for another

// call never retries by itself: whether to ask again is the person's choice.
async function call(path, { body, token } = {}) {
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method: body === undefined ? 'GET' : 'POST',
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(requestTimeout),
    });
    answer = await response.json();
  } catch {
    throw new Failure('The server cannot be reached. Nothing is lost: try again.', { errcode: 'NETWORK' });
  }
  if (response.ok) return answer;
  throw new Failure(answer.error || 'Something went wrong. Try again.', {
    errcode: answer.errcode,
    retryAfter: waitOf(response, answer),
  });
}

// waitOf prefers the milliseconds in the body to the header's whole seconds.
function waitOf(response, answer) {
  if (answer.retry_after_ms > 0) return answer.retry_after_ms;
  const seconds = Number(response.headers.get('Retry-After'));
  return seconds > 0 ? seconds * 1000 : 0;
}

// The page may stand below a path that a proxy takes away: paths are relative.
const here = (path) => new URL(path.replace(/^\//, ''), document.baseURI).pathname;

export const getConfig = () => call(here('demo/config'));

export class Account {
  constructor(basePath, token) {
    this.at = (path) => here(basePath + path);
    this.token = token;
  }

  requestToken(request) {
    return call(this.at('/account/3pid/msisdn/requestToken'), { body: request });
  }

  // submit_url is where the server says. It is this very server, perhaps by
  // another of its names, which the page's policy would not let it call.
  submitToken(submitURL, submission) {
    return call(new URL(submitURL, document.baseURI).pathname, { body: submission });
  }

  add(sid, clientSecret) {
    return call(this.at('/account/3pid/add'), { body: { sid, client_secret: clientSecret }, token: this.token });
  }

  remove(address) {
    return call(this.at('/account/3pid/delete'), { body: { medium: 'msisdn', address }, token: this.token });
  }

  async numbers() {
    const { threepids } = await call(this.at('/account/3pid'), { token: this.token });
    return threepids.filter((t) => t.medium === 'msisdn');
  }
}

// random makes so many bytes, as base64url: a guest's token, a client_secret.
export function random(bytes) {
  const raw = crypto.getRandomValues(new Uint8Array(bytes));
  return btoa(String.fromCharCode(...raw)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
