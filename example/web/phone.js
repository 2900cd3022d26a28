// The drawing of a phone, which shows each SMS when it arrives.

const maxBubbles = 20;
const $ = (id) => document.getElementById(id);

// watch opens the stream. It calls onCode with a code when the user clicks on it.
export function watch(onCode) {
  $('phone').hidden = false;
  document.body.classList.add('with-phone');
  const stream = new EventSource('demo/texts'); // reconnects automatically
  const state = (words, live) => {
    $('phone-state').textContent = words;
    $('phone').classList.toggle('live', live);
  };
  stream.addEventListener('open', () => state('live', true));
  stream.addEventListener('error', () => {
    state(stream.readyState === EventSource.CLOSED ? 'off: reload the page' : 'reconnecting', false);
  });
  stream.addEventListener('message', (event) => show(JSON.parse(event.data), onCode));
}

function show({ at, to, text }, onCode) {
  $('phone-empty').hidden = true;
  const item = document.createElement('li');
  const meta = document.createElement('p');
  meta.className = 'meta';
  const time = document.createElement('time');
  time.dateTime = new Date(at).toISOString();
  time.textContent = new Intl.DateTimeFormat([...navigator.languages], { timeStyle: 'short' }).format(at);
  meta.append(`to ${to}, `, time);
  item.append(meta, bubble(text, onCode));
  const texts = $('texts');
  const head = `${to} ${time.textContent}`;
  item.classList.toggle('same', texts.lastElementChild?.dataset.head === head);
  item.dataset.head = head;
  // Only the newest code is a button. Keyboard users would have to tab through older ones.
  for (const older of texts.querySelectorAll('.pick')) older.replaceWith(older.textContent);
  texts.append(item);
  while (texts.children.length > maxBubbles) texts.firstElementChild.remove();
  texts.firstElementChild.classList.remove('same');
  $('screen').scrollTop = $('screen').scrollHeight;
}

// bubble returns an element for the text of an SMS. The code in it is a button that
// fills in the code, as real phones offer it.
function bubble(text, onCode) {
  const p = document.createElement('p');
  p.className = 'bubble';
  const code = /\b\d{6,9}\b/.exec(text);
  if (!code) {
    p.textContent = text;
    return p;
  }
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'pick';
  button.textContent = code[0];
  button.title = 'Fill in';
  button.addEventListener('click', () => onCode(code[0]));
  p.append(text.slice(0, code.index), button, text.slice(code.index + code[0].length));
  return p;
}
