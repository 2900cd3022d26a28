// The flow on the page: enter a number, confirm it, add it to the account, and remove it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ask, codeFrom, confirm, limitedURL, newNumber, on, textsTo, useBrowser } from './page.mjs';

const open = useBrowser();
const wrong = (code) => String((Number(code) + 1) % 1e6).padStart(6, '0');

test('a number is added to the account and removed', async (t) => {
  const page = await open(t);
  const number = newNumber();
  const code = await ask(page, number);
  await page.getByText(`We sent it by SMS to ${number.intl}`).waitFor();
  await on(page).code.fill(` ${code.slice(0, 3)} ${code.slice(3)}`); // with spaces, as people may type it
  await on(page).confirm.click();
  await on(page).done.waitFor();
  await on(page).remove(number.intl).waitFor();

  await page.reload(); // the account outlives the page
  await on(page).remove(number.intl).click();
  await page.getByText('None yet.').waitFor();
  await on(page).status.filter({ hasText: /is no longer on this account/ }).waitFor();
  await confirm(page, number); // the number can be added again
});

test('a click on the code on the phone fills it in', async (t) => {
  const page = await open(t);
  const number = newNumber();
  const code = await ask(page, number);
  await textsTo(page, number).getByRole('button', { name: code }).click();
  assert.equal(await on(page).code.inputValue(), code);
});

test('the error for a wrong code contains the tries left, and the right code is still accepted', async (t) => {
  const page = await open(t);
  const code = await ask(page, newNumber());
  for (const left of ['4 tries left', '3 tries left']) {
    await on(page).code.fill(wrong(code));
    await on(page).confirm.click();
    await on(page).alert.filter({ hasText: left }).waitFor();
    assert.equal(await on(page).code.getAttribute('aria-invalid'), 'true');
  }
  await on(page).code.fill(code);
  assert.equal(await on(page).alert.count(), 0, 'the error for the wrong code is still shown');
  await on(page).confirm.click();
  await on(page).done.waitFor();
});

test('after five wrong codes, another SMS contains a new code', async (t) => {
  const page = await open(t);
  const number = newNumber();
  const code = await ask(page, number);
  for (const said of ['4 tries', '3 tries', '2 tries', '1 try', 'the last try']) {
    await on(page).code.fill(wrong(code));
    await on(page).confirm.click();
    await on(page).alert.filter({ hasText: said }).waitFor();
  }
  await on(page).code.fill(code);
  await on(page).confirm.click();
  await on(page).alert.filter({ hasText: 'Press “Send another SMS” to get a new code' }).waitFor();
  await on(page).resend.click();
  await textsTo(page, number).nth(1).waitFor();
  const newer = await codeFrom(textsTo(page, number).last());
  assert.notEqual(newer, code);
  await on(page).code.fill(newer);
  await on(page).confirm.click();
  await on(page).done.waitFor();
});

test('the error for a number in use depends on whose account has it', async (t) => {
  const page = await open(t);
  const number = newNumber();
  await confirm(page, number);
  await page.getByRole('button', { name: 'Add another number' }).click();
  await on(page).number.fill(number.national);
  await on(page).ask.click();
  await on(page).alert.filter({ hasText: 'on this account already' }).waitFor();
  await page.getByText('Ben', { exact: true }).click();
  await page.getByText('Ben’s numbers').waitFor();
  await page.getByText('None yet.').waitFor();
  await on(page).number.fill(number.national);
  await on(page).ask.click();
  await on(page).alert.filter({ hasText: 'on an account already' }).waitFor();
  assert.equal(await textsTo(page, number).count(), 1, 'an SMS was sent to a number in use');
});

test('send_attempt is incremented for each SMS that the user requests, and not for retries', async (t) => {
  const page = await open(t);
  const asked = [];
  let cut = true;
  await page.route('**/requestToken', async (route) => {
    asked.push(route.request().postDataJSON());
    if (cut) await route.abort();
    else await route.continue();
  });
  const number = newNumber();
  await on(page).number.fill(number.national);
  await on(page).ask.click();
  await on(page).alert.filter({ hasText: 'cannot be reached' }).waitFor();
  assert.equal(await on(page).number.getAttribute('aria-invalid'), null, 'the number is marked as invalid after a network failure');
  cut = false;
  await on(page).ask.click();
  await on(page).code.waitFor();
  cut = true;
  await on(page).resend.click();
  await on(page).alert.filter({ hasText: 'cannot be reached' }).waitFor();
  cut = false;
  await on(page).resend.click();
  await textsTo(page, number).nth(1).waitFor();
  await on(page).change.click();
  await on(page).ask.click();
  await textsTo(page, number).nth(2).waitFor();
  assert.deepEqual(asked.map((a) => a.send_attempt), [1, 1, 2, 2, 3]);
  assert.equal(new Set(asked.map((a) => a.client_secret)).size, 1);

  await on(page).change.click();
  const other = newNumber();
  await ask(page, other);
  const last = asked.at(-1);
  assert.equal(last.send_attempt, 1);
  assert.notEqual(last.client_secret, asked[0].client_secret);
  assert.match(last.client_secret, /^[0-9A-Za-z_-]{43}$/);
});

test('after a reload, the code can still be entered', async (t) => {
  const page = await open(t);
  const number = newNumber();
  const code = await ask(page, number);
  await page.reload();
  await page.getByText(`We sent it by SMS to ${number.intl}`).waitFor();
  await on(page).code.fill(code);
  await on(page).confirm.click();
  await on(page).done.waitFor();
});

test('the error for invalid input explains what is wrong', async (t) => {
  const page = await open(t);
  for (const [typed, said] of [['', 'Enter your phone number'], ['12', 'not a phone number in this country'], ['call me 1', 'not a phone number']]) {
    await on(page).number.fill(typed);
    await on(page).ask.click();
    await on(page).alert.filter({ hasText: said }).waitFor();
    assert.ok(await on(page).number.evaluate((e) => e === document.activeElement), 'the field does not have the focus');
  }
});

test('after a rate limit, a countdown disables the button until it ends', async (t) => {
  const page = await open(t, { at: limitedURL });
  await page.clock.install();
  const asked = [];
  page.on('request', (request) => { if (request.url().endsWith('/requestToken')) asked.push(request); });
  const number = newNumber();
  await ask(page, number);
  for (let texts = 2; texts <= 4; texts += 1) {
    await on(page).resend.click();
    await textsTo(page, number).nth(texts - 1).waitFor();
  }
  await on(page).resend.click();
  await on(page).alert.filter({ hasText: 'Too many requests. Try again in' }).waitFor();
  const waiting = page.getByRole('button', { name: /^Send another SMS in (10|9):\d\d$/ });
  await waiting.waitFor();
  assert.equal(await waiting.getAttribute('aria-disabled'), 'true');
  await waiting.click({ force: true });
  await waiting.press('Enter');
  assert.equal(asked.length, 5, 'a request was sent before the countdown ended');
  await page.clock.fastForward('05:00');
  await page.getByRole('button', { name: /^Send another SMS in [45]:\d\d$/ }).waitFor();
  await page.clock.fastForward('06:00');
  await page.getByRole('button', { name: 'Send another SMS', exact: true }).waitFor();
  await on(page).status.filter({ hasText: 'another SMS now' }).waitFor();
  assert.equal(await on(page).code.inputValue(), '');

  // The code of the last SMS is still valid.
  await on(page).code.fill(await codeFrom(textsTo(page, number).last()));
  await on(page).confirm.click();
  await on(page).done.waitFor();
});
