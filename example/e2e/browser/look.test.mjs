// The page can be used with a keyboard, with a screen reader, on a narrow phone and in
// dark mode, and its Content-Security-Policy is in force.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'node:test';
import { ask, codeFrom, newNumber, on, textsTo, url, useBrowser } from './page.mjs';

const open = useBrowser();
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

// All states of the page. Each function moves the page from the previous state to its own.
const states = [
  ['idle', async () => {}],
  ['error', async (page) => {
    await on(page).number.fill('12');
    await on(page).ask.click();
    await on(page).alert.waitFor();
  }],
  ['code', async (page, number) => { await ask(page, number); }],
  ['wrong', async (page) => {
    await on(page).code.fill('1');
    await on(page).confirm.click();
    await on(page).alert.waitFor();
  }],
  ['done', async (page, number) => {
    await on(page).code.fill(await codeFrom(textsTo(page, number).last()));
    await on(page).confirm.click();
    await on(page).done.waitFor();
    await on(page).remove(number.intl).waitFor();
  }],
];

const looks = [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['narrow', { colorScheme: 'light', viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }],
];

for (const [look, options] of looks) {
  test(`accessible and not wider than the window: ${look}`, async (t) => {
    // The page's policy would block axe. Another test checks the policy.
    const page = await open(t, { bypassCSP: true, reducedMotion: 'reduce', ...options });
    await page.addScriptTag({ path: axe });
    const number = newNumber();
    for (const [state, reach] of states) {
      await reach(page, number);
      const { violations } = await page.evaluate(() => axe.run({ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`), [], state);
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= room && room === page.viewportSize().width, `${state}: ${wide} pixels wide, in a window of ${room}`);
      if (process.env.THREEPID_SHOTS) {
        await page.screenshot({ path: join(process.env.THREEPID_SHOTS, `${look}-${state}.png`), fullPage: true });
      }
    }
  });
}

test('the background follows the colour scheme', async (t) => {
  const background = async (colorScheme) => {
    const page = await open(t, { colorScheme });
    return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  };
  const [light, dark] = [await background('light'), await background('dark')];
  const sum = (colour) => colour.match(/\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
  assert.ok(sum(light) > 600 && sum(dark) < 150, `${light}, ${dark}`);
});

test('the whole flow by keyboard alone', async (t) => {
  const page = await open(t);
  const number = newNumber();
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  const tabTo = async (id) => {
    for (let i = 0; i < 12; i += 1) {
      await page.keyboard.press('Tab');
      if (await focused() === id) return;
    }
    assert.fail(`the Tab key does not reach ${id}; the focus is on ${await focused()}`);
  };
  await tabTo('number');
  await page.keyboard.type(number.national);
  await page.keyboard.press('Enter');
  await textsTo(page, number).waitFor();
  await on(page).code.waitFor();
  assert.equal(await focused(), 'code');
  await page.keyboard.type('1');
  await page.keyboard.press('Enter');
  await on(page).alert.waitFor();
  assert.equal(await focused(), 'code');
  await page.keyboard.type(await codeFrom(textsTo(page, number))); // replaces the selected wrong code
  await page.keyboard.press('Enter');
  await on(page).done.waitFor();
  assert.equal(await focused(), 'done-title');
  await on(page).remove(number.intl).waitFor();
  await tabTo('Remove');
  await page.keyboard.press('Enter');
  await page.getByText('None yet.').waitFor();
  assert.equal(await focused(), 'list-title');
});

test('fields have the types and autofill attributes that devices look for', async (t) => {
  const page = await open(t);
  const field = (locator) => locator.evaluate((e) => [e.type, e.autocomplete, e.inputMode].join(' '));
  assert.equal(await field(on(page).number), 'tel tel-national ');
  await ask(page, newNumber());
  assert.equal(await field(on(page).code), 'text one-time-code numeric');
  assert.match(await page.title(), /^Enter the code/);
  await on(page).status.filter({ hasText: 'is on its way' }).waitFor();
});

test('countries have names in the browser’s language, and its own is selected', async (t) => {
  const page = await open(t, { locale: 'de-CH' });
  const [chosen] = await page.locator('#country option:checked').allInnerTexts();
  assert.equal(chosen, 'Schweiz (+41)');
  const names = await page.locator('#country option').allTextContents();
  assert.ok(names.length > 240 && names.includes('Österreich (+43)'), `${names.length} countries`);
  assert.ok(names.indexOf('Österreich (+43)') < names.indexOf('Polen (+48)'), 'Ö is not sorted with O');
});

test('the policy is strict, and blocks an inline style', async (t) => {
  const page = await open(t, { expected: /^console: Applying inline style violates/ });
  const response = await page.request.get(url);
  const policy = response.headers()['content-security-policy'];
  assert.match(policy, /^default-src 'none';/);
  assert.doesNotMatch(policy, /unsafe|\*|data:|blob:/);
  assert.match(policy, /frame-ancestors 'none'/);
  const refused = await page.evaluate(() => new Promise((resolve) => {
    document.addEventListener('securitypolicyviolation', (e) => resolve(e.effectiveDirective), { once: true });
    const style = document.createElement('style');
    style.textContent = 'body { display: none }';
    document.head.append(style);
  }));
  assert.equal(refused, 'style-src-elem');
});
