// What the page shows, and what screen readers announce.

const $ = (id) => document.getElementById(id);
const titles = { number: 'Add your phone number', code: 'Enter the code', done: 'Number confirmed' };

// showStep shows one step and moves the focus to an element of it. Screen readers
// then do not announce the step's heading, so the title of the page contains it too.
export function showStep(name, focus) {
  for (const step of document.querySelectorAll('[data-step]')) step.hidden = step.dataset.step !== name;
  let passed = true;
  for (const mark of document.querySelectorAll('.steps li')) {
    if (mark.dataset.for === name) {
      mark.setAttribute('aria-current', 'step');
      passed = false;
    } else mark.removeAttribute('aria-current');
    mark.classList.toggle('passed', passed || name === 'done');
  }
  document.title = `${titles[name]} – threepid`;
  focus?.focus();
}

// say shows a message about something that succeeded. Screen readers announce it
// without interrupting the user. A quiet message is only announced and not visible,
// for what the page already shows in another way.
export function say(message, { quiet = false } = {}) {
  $('status').textContent = message;
  $('status').classList.toggle('quiet', quiet);
}

// unbroken keeps a number on one line.
export const unbroken = (number) => number.replaceAll(' ', '\u00a0');

// warn shows an error below a field whose input did not cause it. Screen readers
// announce it immediately. An empty message removes the error, also that of complain.
export function warn(field, message) {
  $(`${field}-error`).textContent = message;
  $(field).removeAttribute('aria-invalid');
  if (message) say('');
}

// complain shows an error below a field, marks its input as invalid, and moves the focus to it.
export function complain(field, message) {
  warn(field, message);
  const input = $(field);
  input.setAttribute('aria-invalid', 'true');
  input.focus();
  input.select();
}

function label(button, words) { button.querySelector('.words').textContent = words; }

// busy is on while a request is in progress. Its button gets aria-disabled instead of
// disabled, because a disabled button would lose the focus.
export const busy = {
  on: false,
  async while(button, words, work) {
    const before = button.querySelector('.words').textContent;
    busy.on = true;
    label(button, words);
    button.classList.add('busy');
    button.setAttribute('aria-disabled', 'true');
    try {
      return await work();
    } finally {
      busy.on = false;
      label(button, before);
      button.classList.remove('busy');
      button.removeAttribute('aria-disabled');
    }
  },
};

// Countdown disables a button until the time that the server named. The button shows
// the remaining time, which screen readers do not announce each second.
export class Countdown {
  constructor(button, words, onEnd) {
    Object.assign(this, { button, words, onEnd, running: false });
  }

  start(milliseconds) {
    this.stop();
    this.end = Date.now() + milliseconds;
    this.running = true;
    this.button.setAttribute('aria-disabled', 'true');
    this.timer = setInterval(() => this.tick(), 250);
    this.tick();
  }

  tick() {
    const left = Math.ceil((this.end - Date.now()) / 1000);
    if (left <= 0) {
      this.stop();
      this.onEnd();
      return;
    }
    label(this.button, `${this.words} in ${clock(left)}`);
  }

  stop() {
    if (!this.running) return;
    clearInterval(this.timer);
    this.running = false;
    this.button.removeAttribute('aria-disabled');
    label(this.button, this.words);
  }
}

function clock(seconds) {
  const two = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
