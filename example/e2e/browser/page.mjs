// What the tests of the page share: a browser, a page of it that is watched, and
// the parts of the page by their roles and names, as a screen reader has them.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';

export const url = process.env.THREEPID_URL; // limits are off
export const limitedURL = process.env.THREEPID_LIMITED_URL;

const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

// useBrowser starts a browser for the tests of a file and returns a function that
// opens pages in it, and waits for what says that a page is ready. A page's test fails when the page breaks its policy, throws,
// or asks anybody but its own server for anything, save what is expected.
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
    // The browser itself notes each answer that is no success, as many here are to be.
    const noted = /^Failed to load resource: (the server responded with a status of 4|net::ERR_)/.test(message.text());
    if (message.type() === 'error' && !noted) faults.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`foreign request: ${request.url()}`);
  });
  return faults;
}

// Each file of tests is a process of its own, so its numbers begin at random.
const range = randomInt(400, 500);
let next = randomInt(100_000, 900_000);

// newNumber is a British mobile number that no other test uses.
export function newNumber() {
  next += 17;
  const digits = `7${range}${next}`;
  return { national: `0${digits}`, msisdn: `44${digits}`, intl: `+44 ${digits.slice(0, 4)} ${digits.slice(4)}` };
}

export const on = (page) => ({
  country: page.getByRole('combobox', { name: 'Country' }),
  number: page.getByRole('textbox', { name: 'Phone number' }),
  ask: page.getByRole('button', { name: 'Text me a code' }),
  code: page.getByRole('textbox', { name: 'Code' }),
  confirm: page.getByRole('button', { name: 'Confirm' }),
  resend: page.getByRole('button', { name: 'Send another text' }),
  change: page.getByRole('button', { name: 'Change number' }),
  alert: page.getByRole('alert').filter({ hasText: /./ }),
  status: page.getByRole('status'),
  texts: page.getByRole('log').getByRole('listitem'),
  done: page.getByRole('heading', { name: 'Number confirmed' }),
  remove: (intl) => page.getByRole('button', { name: `Remove ${intl}` }),
});

// textsTo are the texts on the page's phone to one number.
export const textsTo = (page, number) => on(page).texts.filter({ hasText: `to ${number.intl},` });

export async function codeFrom(text) {
  const [code] = /\d{6}/.exec(await text.locator('.bubble').innerText());
  return code;
}

// ask asks for a code and waits until it is on the phone.
export async function ask(page, number) {
  await on(page).country.selectOption('GB');
  await on(page).number.fill(number.national);
  await on(page).ask.click();
  await textsTo(page, number).first().waitFor();
  await on(page).code.waitFor();
  return codeFrom(textsTo(page, number).last());
}

// confirm takes the number through the whole flow.
export async function confirm(page, number) {
  await on(page).code.fill(await ask(page, number));
  await on(page).confirm.click();
  await on(page).done.waitFor();
}
