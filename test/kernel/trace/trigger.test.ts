import { describe, expect, test } from 'vitest';
import { TestSystem } from './system.ts';

const TRIGGER = 'events/shop/order/trigger';
const AVAILABLE =
  '# Available triggers:\n# traceon traceoff snapshot stacktrace enable_event disable_event enable_hist disable_hist hist\n';

function shop() {
  const system = new TestSystem();
  const fields = [{ type: 'int', name: 'id', size: 4, signed: true }];
  const order = system.event('shop', 'order', fields, '"id=%d", REC->id');
  const other = system.event('shop', 'other', fields, '"id=%d", REC->id');
  const { fs } = system;
  const add = (text: string): string => system.refusal(() => fs.appendFile(TRIGGER, text));
  const ids = (): number[] => system.lines().map((line) => Number(/id=(-?\d+)/.exec(line)?.[1]));
  return { system, order, other, fs, add, ids };
}

describe('commands', () => {
  test('one of a kind, counts, filters and what is shown of them', () => {
    const { add, fs } = shop();
    expect(fs.readFile(TRIGGER)).toBe(AVAILABLE);
    expect(add(' traceon')).toBe('ok');
    expect(add('traceoff')).toBe('EEXIST');
    expect(add('stacktrace:0x10 if id > 3')).toBe('ok');
    expect(add('snapshot:0')).toBe('ok');
    expect(add('enable_event:shop:other:3 if id == 1')).toBe('ok');
    expect(fs.readFile(TRIGGER)).toBe(
      'enable_event:shop:other:count=3 if id == 1\nsnapshot:count=0\nstacktrace:count=16 if id > 3\ntraceon:unlimited\n',
    );
    // All but hists stay when the file is truncated.
    fs.writeFile(TRIGGER, '');
    expect(fs.readFile(TRIGGER).split('\n')).toHaveLength(5);
    for (const command of ['!traceoff', '!stacktrace if nosuch', '!snapshot', '!disable_event:shop:other'])
      expect(add(command)).toBe('ok');
    expect(fs.readFile(TRIGGER)).toBe(AVAILABLE);
    expect(fs.readFile('events/shop/other/enable')).toBe('0\n');
  });

  test.each([
    ['traceon:x', 'EINVAL'],
    ['traceon:1x', 'EINVAL'],
    ['traceon:99999999999999999999', 'ERANGE'],
    ['traceon if', 'EINVAL'],
    ['traceon id > 1', 'EINVAL'],
    ['traceon if (id', 'ENOENT'],
    ['nosuch', 'EINVAL'],
    ['enable_event', 'EINVAL'],
    ['enable_event:shop', 'EINVAL'],
    ['enable_event:shop:nosuch', 'EINVAL'],
    ['enable_event:shop:other:', 'EINVAL'],
    ['!enable_event:shop:nosuch', 'EINVAL'],
    ['!traceon', 'ok'],
    ['', 'ok'],
    [' ', 'EINVAL'],
    ['x'.repeat(4096), 'EINVAL'],
  ])('%s: %s, and nothing has changed', (command, errno) => {
    const { add, fs } = shop();
    expect(add(command)).toBe(errno);
    expect(fs.readFile(TRIGGER)).toBe(AVAILABLE);
    expect(fs.readFile('events/shop/order/enable')).toBe('0\n');
    expect(fs.readFile('events/shop/other/enable')).toBe('0\n');
  });
});

describe('what they do', () => {
  test('a trigger runs the event in soft mode: the source runs, nothing is recorded', () => {
    const { add, fs, order, ids } = shop();
    add('traceoff:1 if id == 2');
    expect(fs.readFile('events/shop/order/enable')).toBe('0*\n');
    expect(order.regs).toEqual([true]);
    order.fire({ id: 2 });
    expect(fs.readFile('tracing_on')).toBe('0\n');
    expect(ids()).toEqual([]);
    add('!traceoff');
    expect(order.regs).toEqual([true, false]);
  });

  test('traceoff records what led to it; turning on what is on does not count', () => {
    const { add, fs, order, ids } = shop();
    fs.writeFile('events/shop/order/enable', '1');
    add('traceoff:1 if id == 2');
    for (const id of [1, 2, 3]) order.fire({ id });
    expect(ids()).toEqual([1, 2]);
    expect(fs.readFile(TRIGGER)).toBe('traceoff:count=0 if id == 2\n');
    add('!traceoff');
    add('traceon:2');
    order.fire({ id: 4 });
    order.fire({ id: 5 });
    expect(fs.readFile(TRIGGER)).toBe('traceon:count=1\n');
    expect(ids()).toEqual([1, 2, 4, 5]);
  });

  test('a snapshot holds the record that led to it', () => {
    const { add, fs, order, system, ids } = shop();
    fs.writeFile('events/shop/order/enable', '1');
    add('snapshot:1 if id == 2');
    for (const id of [1, 2, 3]) order.fire({ id });
    expect(system.lines('snapshot').map((line) => Number(/id=(\d)/.exec(line)?.[1]))).toEqual([1, 2]);
    expect(ids()).toEqual([3]);
  });

  test('one event switches another', () => {
    const { add, fs, order, other, ids } = shop();
    add('enable_event:shop:other:1 if id == 2');
    add('disable_event:shop:other if id == 3');
    expect(fs.readFile(TRIGGER)).toBe('enable_event:shop:other:count=1 if id == 2\n');
    for (const id of [1, 2, 3]) {
      order.fire({ id });
      other.fire({ id: id * 10 });
    }
    expect(ids()).toEqual([20, 30]);
    expect(fs.readFile('events/shop/other/enable')).toBe('1*\n');
    // As on Linux, what a trigger has turned on stays on when the trigger goes.
    add('!enable_event:shop:other');
    expect(fs.readFile('events/shop/other/enable')).toBe('1\n');
    expect(other.regs).toEqual([true]);
  });

  test('an event that is switched cannot be removed, and an instance takes its triggers with it', () => {
    const { fs, order, system } = shop();
    fs.mkdir('instances/one');
    fs.appendFile('instances/one/events/shop/order/trigger', 'enable_event:shop:other');
    expect(order.regs).toEqual([true]);
    fs.rmdir('instances/one');
    expect(order.regs).toEqual([true, false]);
    expect(system.tracing.instances.size).toBe(0);
  });
});

test('any command is taken or refused, and removing everything leaves nothing behind', () => {
  const { fs, order, other, system } = shop();
  fs.appendFile('synthetic_events', 'lat u64 x; int id');
  let state = 5;
  const next = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  const words =
    'hist : keys= vals= id common_pid common_timestamp.usecs , x= y= $x $y onmatch(shop.order) onmax($x) .save( .lat( .trace(lat, ) ' +
    'sort= size=128 name=n clear pause if id>1 - + / 2 0 .hex .log2 .buckets= traceoff stacktrace snapshot enable_event:shop:other !';
  const list = words.split(' ');
  for (let n = 0; n < 3000; n++) {
    let text = next() < 0.7 ? 'hist:keys=id:' : '';
    for (let i = 0; i < 1 + next() * 7; i++) text += list[Math.floor(next() * list.length)];
    if (next() < 0.1) text = `!${text}`;
    const event = next() < 0.5 ? 'order' : 'other';
    expect([
      'ok',
      'EINVAL',
      'ENOENT',
      'EEXIST',
      'EBUSY',
      'EDOM',
      'ENOMEM',
      'ERANGE',
      'E2BIG',
      'EPERM',
      'ESRCH',
    ]).toContain(system.refusal(() => fs.appendFile(`events/shop/${event}/trigger`, text)));
    order.fire({ id: n % 5 });
    other.fire({ id: n % 7 });
    if (n % 50 === 0)
      expect(fs.readFile('events/shop/order/hist') + fs.readFile('events/shop/order/trigger')).not.toBe('');
  }
  for (let n = 0; n < 2; n++) {
    for (const event of ['order', 'other']) {
      const trigger = `events/shop/${event}/trigger`;
      fs.writeFile(trigger, '');
      for (const command of ['traceoff', 'stacktrace', 'snapshot', 'enable_event:shop:other'])
        fs.appendFile(trigger, `!${command}`);
    }
  }
  for (const event of ['order', 'other']) {
    expect(fs.readFile(`events/shop/${event}/trigger`)).toBe(AVAILABLE);
    fs.writeFile(`events/shop/${event}/enable`, '0');
  }
  expect(order.regs.at(-1)).toBe(false);
  expect(other.regs.at(-1)).toBe(false);
  expect(system.tracing.globalTrace.references).toBe(0);
  expect(system.refusal(() => fs.appendFile('synthetic_events', '!lat'))).toBe('ok');
});
