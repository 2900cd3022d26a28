// The requests of the page. Each returns the JSON object of the response, or throws
// a Failure with a message for the user.

export class Failure extends Error {
  constructor(message, { errcode = '', retryAfter = 0 } = {}) {
    super(message);
    this.errcode = errcode;
    this.retryAfter = retryAfter; // milliseconds; 0 if unknown
  }
}

const requestTimeout = 30_000; // sending takes up to ten seconds, and may wait for another request

// call never retries: the user decides whether to try again.
async function call(path, { body, token } = {}) {
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  let result;
  try {
    response = await fetch(path, {
      method: body === undefined ? 'GET' : 'POST',
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(requestTimeout),
    });
    result = await response.json();
  } catch {
    throw new Failure('The server cannot be reached. Try again.', { errcode: 'NETWORK' });
  }
  if (response.ok) return result;
  throw new Failure(result.error || 'Something went wrong. Try again.', {
    errcode: result.errcode,
    retryAfter: waitOf(response, result),
  });
}

// waitOf prefers the milliseconds in the body to the whole seconds in the header.
function waitOf(response, result) {
  if (result.retry_after_ms > 0) return result.retry_after_ms;
  const seconds = Number(response.headers.get('Retry-After'));
  return seconds > 0 ? seconds * 1000 : 0;
}

// Paths are relative to the page, because a proxy may serve it below a prefix that it removes.
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

  // submit_url is a URL of this server, but perhaps with another host name, to which
  // the page's policy allows no requests. So only its path is used.
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

// random returns random bytes in base64url, for a guest's token or a client_secret.
export function random(bytes) {
  const raw = crypto.getRandomValues(new Uint8Array(bytes));
  return btoa(String.fromCharCode(...raw)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
