// The flow: a number, the code, the account. What is on the screen follows from
// the verification below, which survives a reload: on a telephone, going to read
// the text may well cost the page its memory.

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
let flow = 0; // grows when the person turns to something else: answers to what was before are not shown

const askWait = new Countdown($('ask'), 'Text me a code', () => say('You can ask for a code again.'));
const resendWait = new Countdown($('resend'), 'Send another text', () => say('You can ask for another text now.'));
const confirmWait = new Countdown($('confirm'), 'Confirm', () => say('You can try a code again.'));

function remember() {
  try {
    if (verification) sessionStorage.setItem(stored, JSON.stringify(verification));
    else sessionStorage.removeItem(stored);
  } catch { /* without it, a reload begins anew */ }
}

// prepare gets the verification ready to be sent. A new number is a new session
// with a secret of its own. The count goes up only when the server has answered
// for the last one and the person asks for another text: asking again after a
// failure repeats the same attempt, and can cost no second text.
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

// ask sends the attempt and returns whether it is still what the person waits for.
async function ask() {
  const mine = flow;
  const asked = verification;
  const answer = await account.requestToken({
    client_secret: asked.secret,
    country: asked.country,
    phone_number: asked.number,
    send_attempt: asked.attempt,
  });
  Object.assign(asked, {
    acknowledged: true, sid: answer.sid, submitURL: answer.submit_url, intl: answer.intl_fmt, msisdn: answer.msisdn,
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
  say(`A text with a code is on its way to ${verification.intl}.`, { quiet: true });
}

async function onCode(event) {
  event.preventDefault();
  if (confirmWait.running || busy.on) return;
  const token = $('code').value.trim();
  if (!token) {
    complain('code', 'Enter the code from the text.');
    return;
  }
  warn('code', '');
  const { sid, secret, submitURL, intl, msisdn } = verification;
  const mine = flow;
  const whose = account; // also if the person turns to the other guest meanwhile
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
    say(`Another text is on its way to ${unbroken(verification.intl)}.`);
    $('code').focus();
  } catch (failure) {
    if (mine === flow) refuse('resend', failure, resendWait);
  }
}

// Failures that say nothing against what was entered.
const blameless = new Set(['NETWORK', 'M_LIMIT_EXCEEDED', 'M_SEND_ERROR', 'M_UNKNOWN', 'M_SESSION_EXPIRED']);

// refuse says what went wrong, at the field it is about, and counts down when the
// server says how long to wait.
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
        ? 'That is not a phone number in this country. Check the digits, or begin with + for another country.'
        : failure.message;
    case 'M_THREEPID_IN_USE':
      return numbers.has($('country').value, $('number').value)
        ? 'That number is on this account already.'
        : 'That number is on an account already. Remove it there first, or use another one.';
    case 'M_SESSION_EXPIRED':
      return `${failure.message} “Send another text” brings a new one.`;
    default:
      return failure.message;
  }
}

// toNumber leaves whatever was going on.
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

// edited takes back what was said about what is being changed.
function edited() {
  warn('number', '');
  askWait.stop();
}

// guest returns the token that is the account: whoever has it has the account.
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
    say('There is no code to bring back just now.');
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
