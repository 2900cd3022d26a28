// The flow: enter a number, enter the code, add the number to the account. Its state
// is the verification below, which survives a reload: a phone may unload the page
// while the user reads the SMS.

import { Account, Failure, getConfig, random } from './api.js';
import { Countries } from './countries.js';
import { Numbers } from './numbers.js';
import { watch } from './phone.js';
import { Countdown, busy, complain, say, showStep, unbroken, warn } from './view.js';

const $ = (id) => document.getElementById(id);
const stored = 'threepid-verification';

let basePath;
let countries;
let account;
let numbers;
let verification = null; // {country, number, secret, attempt, acknowledged, sid, submitURL, intl}
let flow = 0; // incremented when the user leaves a step: results of earlier requests are then not shown

const askWait = new Countdown($('ask'), 'Send me a code', () => say('You can request a code again.'));
const resendWait = new Countdown($('resend'), 'Send another SMS', () => say('You can request another SMS now.'));
const confirmWait = new Countdown($('confirm'), 'Confirm', () => say('You can try a code again.'));

function remember() {
  try {
    if (verification) sessionStorage.setItem(stored, JSON.stringify(verification));
    else sessionStorage.removeItem(stored);
  } catch { /* without storage, a reload starts a new flow */ }
}

// prepare updates the verification for the next request. A new number starts a new
// session, with a new secret. The attempt is incremented only if the last one
// succeeded: after a failure, the request repeats the same attempt, so that it
// cannot cause a second SMS.
function prepare(country, number) {
  if (verification?.country !== country || verification?.number !== number) {
    verification = { country, number, secret: random(32), attempt: 0, acknowledged: true };
  }
  if (verification.acknowledged) {
    verification.attempt += 1;
    verification.acknowledged = false;
  }
  remember();
}

// ask requests a code and reports whether the user still waits for it.
async function ask() {
  const mine = flow;
  const asked = verification;
  const result = await account.requestToken({
    client_secret: asked.secret,
    country: asked.country,
    phone_number: asked.number,
    send_attempt: asked.attempt,
  });
  Object.assign(asked, {
    acknowledged: true, sid: result.sid, submitURL: result.submit_url, intl: result.intl_fmt, msisdn: result.msisdn,
  });
  if (mine !== flow) return false;
  remember();
  return true;
}

async function onNumber(event) {
  event.preventDefault();
  if (askWait.running || busy.on) return;
  const number = $('number').value.trim();
  if (!/\d/.test(number)) {
    complain('number', 'Enter your phone number.');
    return;
  }
  warn('number', '');
  prepare($('country').value, number);
  const mine = flow;
  try {
    if (await busy.while($('ask'), 'Sending…', ask)) toCode();
  } catch (failure) {
    if (mine === flow) refuse('number', failure, askWait);
  }
}

function toCode() {
  $('sent-to').textContent = verification.intl;
  $('code').value = '';
  for (const field of ['code', 'resend']) warn(field, '');
  showStep('code', $('code'));
  say(`An SMS with a code is on its way to ${verification.intl}.`, { quiet: true });
}

async function onCode(event) {
  event.preventDefault();
  if (confirmWait.running || busy.on) return;
  const token = $('code').value.trim();
  if (!token) {
    complain('code', 'Enter the code from the SMS.');
    return;
  }
  warn('code', '');
  const { sid, secret, submitURL, intl, msisdn } = verification;
  const mine = flow;
  const whose = account; // does not change if the user switches to the other guest
  try {
    await busy.while($('confirm'), 'Checking…', async () => {
      await whose.submitToken(submitURL, { sid, client_secret: secret, token });
      await whose.add(sid, secret);
    });
  } catch (failure) {
    if (mine === flow) refuse('code', failure, confirmWait);
    return;
  }
  if (mine !== flow) return;
  numbers.name(msisdn, intl);
  verification = null;
  remember();
  $('done-number').textContent = intl;
  $('number').value = '';
  showStep('done', $('done-title'));
  say('');
  await numbers.load(msisdn);
}

async function onResend() {
  if (resendWait.running || busy.on) return;
  for (const field of ['code', 'resend']) warn(field, '');
  prepare(verification.country, verification.number);
  const mine = flow;
  try {
    if (!await busy.while($('resend'), 'Sending…', ask)) return;
    say(`Another SMS is on its way to ${unbroken(verification.intl)}.`);
    $('code').focus();
  } catch (failure) {
    if (mine === flow) refuse('resend', failure, resendWait);
  }
}

// Errors that do not mean that the input is wrong.
const blameless = new Set(['NETWORK', 'M_LIMIT_EXCEEDED', 'M_SEND_ERROR', 'M_UNKNOWN', 'M_SESSION_EXPIRED']);

// refuse shows an error below its field, and starts a countdown if the server's
// response contains how long to wait.
function refuse(field, failure, wait) {
  if (!(failure instanceof Failure)) throw failure;
  const blame = $(field) instanceof HTMLInputElement && !blameless.has(failure.errcode);
  (blame ? complain : warn)(field, words(failure, field));
  if (failure.retryAfter > 0) wait.start(failure.retryAfter);
}

function words(failure, field) {
  switch (failure.errcode) {
    case 'M_INVALID_PARAM':
      return field === 'number'
        ? 'That is not a phone number in this country. Check the digits, or start with + for another country.'
        : failure.message;
    case 'M_THREEPID_IN_USE':
      return numbers.has($('country').value, $('number').value)
        ? 'That number is on this account already.'
        : 'That number is on an account already. Remove it there first, or use another one.';
    case 'M_SESSION_EXPIRED':
      return `${failure.message} Press “Send another SMS” to get a new code.`;
    default:
      return failure.message;
  }
}

// toNumber leaves the current step and shows the first one.
function toNumber(focus) {
  flow += 1;
  for (const wait of [askWait, resendWait, confirmWait]) wait.stop();
  warn('number', '');
  say('');
  showStep('number', focus ? $('number') : null);
}

function follow() {
  const region = $('country').value;
  $('prefix').textContent = countries.prefix(region);
  const example = countries.example(region);
  $('number-hint').textContent = example ? `For example ${example}` : '';
}

// edited removes messages about the number when the user changes it.
function edited() {
  warn('number', '');
  askWait.stop();
}

// guest returns the token of a guest account, the only credential that the account has.
function guest(name) {
  const key = `threepid-guest-${name}`;
  let token = localStorage.getItem(key);
  if (!token) {
    token = random(32);
    localStorage.setItem(key, token);
  }
  return token;
}

async function enter(name) {
  account = new Account(basePath, guest(name));
  for (const whose of document.querySelectorAll('.whose')) whose.textContent = `${name}’s`;
  numbers.account = account;
  await numbers.load();
}

function pick(code) {
  if ($('code').closest('[hidden]')) {
    say('There is no field for a code at the moment.');
    return;
  }
  $('code').value = code;
  warn('code', '');
  $('code').focus();
}

function resume() {
  try {
    verification = JSON.parse(sessionStorage.getItem(stored));
  } catch { /* nothing to resume */ }
  if (!verification?.sid) return;
  $('country').value = verification.country;
  $('number').value = verification.number;
  follow();
  $('sent-to').textContent = verification.intl;
  showStep('code', $('code'));
}

async function start() {
  const config = await getConfig();
  basePath = config.base_path;
  countries = new Countries(config.countries);
  numbers = new Numbers(countries, say);
  countries.fill($('country'));
  follow();
  resume();
  $('country').addEventListener('change', () => { follow(); edited(); });
  $('number').addEventListener('input', edited);
  $('code').addEventListener('input', () => warn('code', ''));
  $('number-form').addEventListener('submit', onNumber);
  $('code-form').addEventListener('submit', onCode);
  $('resend').addEventListener('click', onResend);
  $('change').addEventListener('click', () => toNumber(true));
  $('again').addEventListener('click', () => toNumber(true));
  for (const radio of document.querySelectorAll('[name=who]')) {
    radio.addEventListener('change', () => {
      verification = null;
      remember();
      toNumber(false);
      enter(radio.value);
    });
  }
  if (config.phone) watch(pick);
  document.documentElement.dataset.ready = '';
  await enter(document.querySelector('[name=who]:checked').value);
}

start().catch((failure) => warn('number', failure.message));
