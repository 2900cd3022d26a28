// What the page shows and says, with care for those who do not see it.

const $ = (id) => document.getElementById(id);
const titles = { number: 'Add your phone number', code: 'Enter the code', done: 'Number confirmed' };

// showStep shows one step and moves the focus to where it goes on. The step's
// heading is not read out by that, so the title says it too.
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

// say is for what went well; it is read out when there is time. What the page shows
// in another way is said quietly: read out alone.
export function say(message, { quiet = false } = {}) {
  $('status').textContent = message;
  $('status').classList.toggle('quiet', quiet);
}

// unbroken keeps a number on one line.
export const unbroken = (number) => number.replaceAll(' ', '\u00a0');

// warn says at once what did not work, below a field that is not to blame for it;
// an empty message takes that, and what complain said, back.
export function warn(field, message) {
  $(`${field}-error`).textContent = message;
  $(field).removeAttribute('aria-invalid');
  if (message) say('');
}

// complain marks a field, says at once what is wrong with it, and goes there.
export function complain(field, message) {
  warn(field, message);
  const input = $(field);
  input.setAttribute('aria-invalid', 'true');
  input.focus();
  input.select();
}

function label(button, words) { button.querySelector('.words').textContent = words; }

// busy is on while an answer is awaited. Buttons stay focusable, lest the focus
// is lost, and are said to be disabled.
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

// Countdown keeps a button from being pressed until the time that the server
// named. The seconds are on the button, which is not read out as they pass.
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
