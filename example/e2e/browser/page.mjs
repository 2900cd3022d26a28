// Helpers for the tests of the page: a browser, a page that is watched for faults, and
// the elements of the page by role and name, as a screen reader finds them.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';

export const url = process.env.THREEPID_URL; // a server without limits
export const limitedURL = process.env.THREEPID_LIMITED_URL;

const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

// useBrowser starts a browser for the tests of a file. It returns a function that opens a
// page in it and waits for the selector ready. The test fails if the page violates its
// Content-Security-Policy, throws, or sends a request to another server, unless the fault
// matches expected.
export function useBrowser() {
  let browser;
  before(async () => {
    browser = await chromium.launch({ executablePath: process.env.THREEPID_CHROMIUM, headless: true, args: flags });
  });
  after(() => browser.close());
  return async (t, { at = url, expected = /^$/, ready = 'html[data-ready]', ...options } = {}) => {
    const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 1280, height: 900 }, ...options });
    context.setDefaultTimeout(60_000);
    const page = await context.newPage();
    const faults = watch(page, new URL(at).origin);
    t.after(async () => {
      await context.close();
      assert.deepEqual(faults.filter((fault) => !expected.test(fault)), []);
    });
    await page.goto(at);
    await page.locator(ready).waitFor();
    return page;
  };
}

function watch(page, origin) {
  const faults = [];
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('console', (message) => {
    // The browser logs each response with an error status; many tests expect one.
    const noted = /^Failed to load resource: (the server responded with a status of 4|net::ERR_)/.test(message.text());
    if (message.type() === 'error' && !noted) faults.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`foreign request: ${request.url()}`);
  });
  return faults;
}

// Each test file runs in a separate process, so its numbers start at random ones.
const range = randomInt(400, 500);
let next = randomInt(100_000, 900_000);

// newNumber returns a British mobile number that no other test uses.
export function newNumber() {
  next += 17;
  const digits = `7${range}${next}`;
  return { national: `0${digits}`, msisdn: `44${digits}`, intl: `+44 ${digits.slice(0, 4)} ${digits.slice(4)}` };
}

export const on = (page) => ({
  country: page.getByRole('combobox', { name: 'Country' }),
  number: page.getByRole('textbox', { name: 'Phone number' }),
  ask: page.getByRole('button', { name: 'Send me a code' }),
  code: page.getByRole('textbox', { name: 'Code' }),
  confirm: page.getByRole('button', { name: 'Confirm' }),
  resend: page.getByRole('button', { name: 'Send another SMS' }),
  change: page.getByRole('button', { name: 'Change number' }),
  alert: page.getByRole('alert').filter({ hasText: /./ }),
  status: page.getByRole('status'),
  texts: page.getByRole('log').getByRole('listitem'),
  done: page.getByRole('heading', { name: 'Number confirmed' }),
  remove: (intl) => page.getByRole('button', { name: `Remove ${intl}` }),
});

// textsTo returns the SMS to one number on the page's phone.
export const textsTo = (page, number) => on(page).texts.filter({ hasText: `to ${number.intl},` });

export async function codeFrom(text) {
  const [code] = /\d{6}/.exec(await text.locator('.bubble').innerText());
  return code;
}

// ask requests a code, waits until the phone shows the SMS, and returns the code.
export async function ask(page, number) {
  await on(page).country.selectOption('GB');
  await on(page).number.fill(number.national);
  await on(page).ask.click();
  await textsTo(page, number).first().waitFor();
  await on(page).code.waitFor();
  return codeFrom(textsTo(page, number).last());
}

// confirm adds the number to the account.
export async function confirm(page, number) {
  await on(page).code.fill(await ask(page, number));
  await on(page).confirm.click();
  await on(page).done.waitFor();
}
