// The list of numbers on the account.

import { Failure } from './api.js';
import { unbroken } from './view.js';

const stored = 'threepid-written';

const $ = (id) => document.getElementById(id);

export class Numbers {
  constructor(countries, say) {
    Object.assign(this, { countries, say, account: null, list: [] });
    try {
      this.names = JSON.parse(localStorage.getItem(stored)) ?? {};
    } catch {
      this.names = {};
    }
  }

  // name stores how the server formats a number. If intl is undefined, it deletes the entry.
  name(msisdn, intl) {
    this.names[msisdn] = intl;
    localStorage.setItem(stored, JSON.stringify(this.names));
  }

  written(msisdn) { return this.names[msisdn] ?? this.countries.spaced(msisdn); }

  // has reports whether the typed number is on the list. It is a guess: it compares digits, and
  // the only national prefix that it knows is 0.
  has(country, typed) {
    const digits = typed.replace(/\D/g, '');
    const code = this.countries.prefix(country).slice(1);
    return this.list.some(({ address }) => address === digits || address === code + digits.replace(/^0+/, ''));
  }

  // load fetches the list and highlights the newest number.
  async load(newest = '') {
    const account = this.account;
    $('list-error').textContent = '';
    try {
      const list = await account.numbers();
      if (account !== this.account) return; // the user has switched to the other guest
      this.list = list;
      this.draw(newest);
    } catch (failure) {
      this.fail(failure);
    }
  }

  draw(newest) {
    $('list-empty').hidden = this.list.length > 0;
    $('list').replaceChildren(...this.list.map((threepid) => this.row(threepid, threepid.address === newest)));
  }

  row({ address, validated_at: validatedAt }, isNew) {
    const row = document.createElement('li');
    row.classList.toggle('new', isNew);
    const number = document.createElement('strong');
    number.className = 'number';
    number.textContent = this.written(address);
    const time = document.createElement('time');
    time.dateTime = new Date(validatedAt).toISOString();
    const format = new Intl.DateTimeFormat([...navigator.languages], { dateStyle: 'medium', timeStyle: 'short' });
    time.textContent = `Confirmed ${format.format(validatedAt)}`;
    const remove = document.createElement('button');
    remove.type = 'button';
    remove.className = 'remove';
    remove.textContent = 'Remove';
    remove.setAttribute('aria-label', `Remove ${this.written(address)}`);
    remove.addEventListener('click', () => this.remove(address, remove));
    const words = document.createElement('div');
    words.append(number, time);
    row.append(words, remove);
    return row;
  }

  async remove(address, button) {
    if (button.getAttribute('aria-disabled')) return;
    button.setAttribute('aria-disabled', 'true');
    try {
      await this.account.remove(address);
    } catch (failure) {
      button.removeAttribute('aria-disabled');
      this.fail(failure);
      return;
    }
    const written = unbroken(this.written(address));
    this.name(address, undefined);
    await this.load();
    this.say(`${written} is no longer on this account.`);
    $('list-title').focus(); // the button that had the focus no longer exists
  }

  fail(failure) {
    if (!(failure instanceof Failure)) throw failure;
    $('list-error').textContent = failure.message;
  }
}
