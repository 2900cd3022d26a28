// The operator's page of -ops-listen: log in, look at the statistics of a day, look up a number, unblock
// it, lift a block. The page can be used with a keyboard, with a screen reader, on a narrow phone and in
// dark mode.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'node:test';
import { useBrowser } from '../browser/page.mjs';

const { THREEPID_OPS_URL: url, THREEPID_OPS_TOKEN: token, THREEPID_OPEN_OPS_URL: openURL, THREEPID_SHOTS: shots } = process.env;
const open = useBrowser();
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const blockedNumber = '+44 7400 015821';

const atTheForm = (t, options = {}) => open(t, { at: `${url}/`, ready: '#token', ...options });

async function logIn(page) {
  await page.getByLabel('Token').fill(token);
  await page.getByLabel('Your name').fill('Carol');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'At a glance' }).waitFor();
}

async function loggedIn(t) {
  const page = await atTheForm(t);
  await logIn(page);
  return page;
}

const goTo = async (page, name) => {
  await page.getByRole('link', { name, exact: true }).click();
  await page.getByRole('heading', { name, level: 1 }).waitFor();
};

const looks = [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['narrow', { colorScheme: 'light', viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }],
];

const states = [
  ['login', async () => {}],
  ['glance', logIn],
  ['week', async (page) => {
    await page.getByRole('link', { name: '7 days' }).click();
    await page.locator('[aria-current=true]', { hasText: '7 days' }).waitFor();
  }],
  ['blocks', (page) => goTo(page, 'Blocks')],
  ['limits', (page) => goTo(page, 'Limits')],
  ['number', async (page) => {
    await goTo(page, 'Number');
    await page.getByLabel('Phone number').fill(blockedNumber);
    await page.getByRole('button', { name: 'Look up' }).click();
    await page.getByRole('heading', { name: 'What happened' }).waitFor();
  }],
  ['bad', async (page) => {
    await page.getByLabel('Phone number').fill('12');
    await page.getByRole('button', { name: 'Look up' }).click();
    await page.getByRole('alert').waitFor();
  }],
  ['audit', (page) => goTo(page, 'Audit log')],
];

for (const [look, options] of looks) {
  test(`accessible and not wider than the window: ${look}`, async (t) => {
    // The page's policy would block axe. The other tests do not bypass it.
    const page = await atTheForm(t, { bypassCSP: true, reducedMotion: 'reduce', ...options });
    for (const [state, reach] of states) {
      await reach(page);
      await page.addScriptTag({ path: axe });
      const { violations } = await page.evaluate(() => axe.run({ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`), [], state);
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= room && room === page.viewportSize().width, `${state}: ${wide} pixels wide, in a window of ${room}`);
      if (shots) await page.screenshot({ path: join(shots, `operator-${look}-${state}.png`), fullPage: true });
    }
  });
}

test('the page shows the statistics of a day', async (t) => {
  const page = await loggedIn(t);
  await page.getByText('blocks are in force').waitFor();
  await page.getByRole('img', { name: /^SMS and confirmations/ }).waitFor();
  await page.getByRole('region', { name: 'Countries' }).getByRole('rowheader', { name: 'United Kingdom' }).waitFor();
  await page.getByText('“SMS and confirmations” as a table').click();
  await page.getByRole('region', { name: 'Table: SMS and confirmations' }).getByRole('row').nth(5).waitFor();
});

test('a number is looked up and unblocked by keyboard alone', async (t) => {
  const page = await loggedIn(t);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  const tabTo = async (id) => {
    for (let i = 0; i < 15; i += 1) {
      await page.keyboard.press('Tab');
      if (await focused() === id) return;
    }
    assert.fail(`the Tab key does not reach ${id}; the focus is on ${await focused()}`);
  };
  await tabTo('Number');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Number', level: 1 }).waitFor();
  await tabTo('number');
  await page.keyboard.type(blockedNumber);
  await page.keyboard.press('Enter');
  await page.getByText('(guard: few').first().waitFor();
  await tabTo('Unblock');
  await page.keyboard.press('Enter');
  await page.getByRole('status').filter({ hasText: /unblocked/ }).waitFor();
  await page.getByText('Unblocked by an operator').first().waitFor();
});

test('the block of the country is lifted', async (t) => {
  const page = await loggedIn(t);
  await goTo(page, 'Blocks');
  await page.getByRole('button', { name: /^Lift the block of United Kingdom/ }).click();
  await page.getByRole('status').filter({ hasText: 'is lifted' }).waitFor();
  assert.equal(await page.getByRole('heading', { name: 'United Kingdom' }).count(), 0);
  await goTo(page, 'Audit log');
  await page.getByRole('row').filter({ hasText: 'lift' }).filter({ hasText: 'Carol' }).first().waitFor();
});

test('the data of a number can be downloaded', async (t) => {
  const page = await loggedIn(t);
  await goTo(page, 'Number');
  await page.getByLabel('Phone number').fill(blockedNumber);
  await page.getByRole('button', { name: 'Look up' }).click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export its data' }).click()]);
  assert.equal(download.suggestedFilename(), 'number.json');
});

test('a wrong token is refused, and after logging out the page requires the token again', async (t) => {
  const page = await open(t, { at: `${url}/blocks`, ready: '#token' });
  await page.getByLabel('Token').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').filter({ hasText: 'not the token' }).waitFor();
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'At a glance' }).waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Token').waitFor();
  await page.goto(`${url}/blocks`);
  await page.getByLabel('Token').waitFor();
});

test('without a token the page offers no action', async (t) => {
  const page = await open(t, { at: `${openURL}/`, ready: 'h1' });
  await page.getByText('read-only').waitFor();
  await goTo(page, 'Number');
  await page.getByLabel('Phone number').fill('+447700900001');
  await page.getByRole('button', { name: 'Look up' }).click();
  await page.getByRole('heading', { name: 'What happened' }).waitFor();
  assert.deepEqual(await page.getByRole('button').allInnerTexts(), ['Look up']);
});
