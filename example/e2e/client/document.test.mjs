// The flow of a client that relies only on the documentation of the endpoints: it
// sends POST requests, expects 200 or an error, and uses the absolute submit_url. The
// base path is the default.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { startServer } from './server.mjs';

let server;
before(async () => { server = await startServer(); });
after(() => server.stop());

async function post(url, body) {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  if (response.status !== 200) throw Object.assign(new Error(`HTTP ${response.status}`), await response.json());
  return response.json();
}

test('a number is validated', async () => {
  const asked = await post(`${server.url}/_api/client/v3/account/3pid/msisdn/requestToken`, {
    client_secret: 'monkeys_are_GREAT',
    country: 'GB',
    phone_number: '07700900001',
    send_attempt: 1,
    next_link: 'https://example.org/congratulations.html',
    id_server: 'id.example.com',
    id_access_token: 'abc123_OpaqueString',
  });
  assert.equal(new URL(asked.submit_url).origin, server.url);
  const [token] = await server.texts('+447700900001', 1);
  const submission = { sid: asked.sid, client_secret: 'monkeys_are_GREAT', token };
  assert.deepEqual(await post(asked.submit_url, submission), { success: true });

  // A browser that submits the code by following a link is redirected to next_link.
  const response = await fetch(`${asked.submit_url}?${new URLSearchParams(submission)}`, { redirect: 'manual' });
  assert.equal(response.status, 302);
  assert.equal(response.headers.get('location'), 'https://example.org/congratulations.html');
});

test('an invalid number is refused with its error code', async () => {
  const request = { client_secret: 's', country: 'GB', phone_number: '1', send_attempt: 1 };
  await assert.rejects(post(`${server.url}/_api/client/v3/account/3pid/msisdn/requestToken`, request), {
    errcode: 'M_INVALID_PARAM',
  });
});

test('a page of another origin may send requests', async () => {
  const response = await fetch(`${server.url}/_api/client/v3/account/3pid/msisdn/requestToken`, {
    method: 'OPTIONS', headers: { origin: 'https://app.example.org', 'access-control-request-method': 'POST' },
  });
  assert.ok(response.ok);
  assert.equal(response.headers.get('access-control-allow-origin'), '*');
});
