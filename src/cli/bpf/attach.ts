/** `trapline bpf attach`: an object's programs in a running process. */
import { TraplineError } from '../../errors.ts';
import { type AttachedObject, attachObject } from '../../target/object/attach-object.ts';
import type { ProcessMap } from '../../target/object/maps.ts';
import { wholeNumber } from '../arguments.ts';
import { notRestored } from '../reports.ts';
import { entriesText } from './contents.ts';
import { hexString } from './files.ts';
import { readInput } from './input.ts';
import { findMap, loadOptions, setGlobals } from './load.ts';
import type { BpfArguments } from './options.ts';

export async function attachCommand(args: BpfArguments): Promise<number> {
  const input = readInput(args);
  if (input.kind !== 'object')
    throw new TraplineError('EINPUT', `${input.file} is no object: its programs name no place`);
  const { object } = input;
  const pidText = args.text('pid');
  if (pidText === undefined)
    throw new TraplineError('EUSAGE', 'there is no process to attach to', { hint: 'give one: -p PID' });
  const pid = wholeNumber('-p', pidText, 1);
  setGlobals(args, object);
  const programs = args.list('program');
  const names = args.list('map');
  for (const name of names) findMap(object.spec.maps, name);
  const note = (text: string): void => void process.stderr.write(`${text}\n`);
  const tell = (text: string, json: object): void =>
    void process.stdout.write(`${args.json ? JSON.stringify(json) : text}\n`);
  const streams = ['ringbuf', 'perf_event_array'];
  const several = [...object.spec.maps.values()].filter(({ type }) => streams.includes(type)).length > 1;
  let lost = 0;
  let untold = false;
  let left: (reason?: string) => void = () => undefined;
  const over = new Promise<string | undefined>((resolve) => {
    left = resolve;
  });
  const stop = (): void => left();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    const { targetBtf, kconfig } = loadOptions(args);
    const attached = await attachObject(pid, object, {
      ...(programs.length === 0 ? {} : { programs }),
      ...(targetBtf === undefined ? {} : { targetBtf }),
      ...(kconfig === undefined ? {} : { kconfig }),
      cookies: cookiesOf(args),
      maxPauseMs: args.number('max-pause', 100, 0),
      onPrint: (line) => tell(line, { type: 'printk', data: line }),
      onRecord: (record, map) => {
        const data = hexString(record);
        tell(several ? `${map}: ${data}` : data, { type: 'record', map, data });
      },
      onLost: (count) => {
        if (count === undefined) untold = true;
        else lost += count;
      },
      onWarning: note,
      onGone: (reason) => left(reason),
    });
    for (const { spec, places } of attached.programs)
      note(`${spec.name}: ${places.length === 0 ? 'by tail calls' : places.join(', ')}`);
    const { length } = attached.programs.filter(({ places }) => places.length > 0);
    note(`Attached ${length} program${length === 1 ? '' : 's'}; Ctrl-C ends`);
    const reason = await over;
    if (reason !== undefined) {
      note(`the process is gone: ${reason}`);
      return 0;
    }
    await attached.disable();
    await attached.flush();
    for (const [name, map] of attached.maps) {
      if (names.length > 0 && !names.includes(name)) continue;
      const text = await contents(attached, map, args.json);
      const { type, keySize, valueSize, maxEntries } = map.spec;
      process.stdout.write(
        args.json
          ? `{"name":${JSON.stringify(name)},"type":${JSON.stringify(type)},"elements":${text}}\n`
          : `${type}  name ${name}  key ${keySize}B  value ${valueSize}B  max_entries ${maxEntries}\n${text}\n`,
      );
    }
    const tells = ['get_stack', 'get_func_ip'];
    if (attached.programs.some(({ helpers }) => helpers.some((name) => tells.includes(name)))) {
      for (const [address, name] of attached.frames())
        tell(`0x${address.toString(16)}  ${name}`, {
          type: 'address',
          address: `0x${address.toString(16)}`,
          name,
        });
    }
    if (lost > 0) note(`Lost ${lost} records: they found no room in the ring buffer`);
    if (untold) note('Lines of bpf_printk() were left out: there were more than 50,000 a second');
    const { failures } = await attached.detach();
    for (const failure of failures) note(notRestored(pid, failure));
    return failures.length > 0 || lost > 0 ? 1 : 0;
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}

/** `--cookie NAME=NUMBER` */
function cookiesOf(args: BpfArguments): Record<string, bigint> {
  return Object.fromEntries(
    args.list('cookie').map((text) => {
      const [, name, number] = /^([^=]+)=(0x[0-9a-f]+|\d+)$/i.exec(text) ?? [];
      if (name === undefined || number === undefined)
        throw new TraplineError('EUSAGE', `--cookie: ${text} is not NAME=NUMBER`);
      return [name, BigInt(number)];
    }),
  );
}

/** What a map holds: of stack maps the frames, of program arrays the names of programs. */
async function contents(
  { object, programs }: AttachedObject,
  map: ProcessMap,
  json: boolean,
): Promise<string> {
  const entries = await map.entries();
  const number = (data: Uint8Array): number => new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  if (map.spec.type === 'stack_trace') {
    const stacks = await Promise.all(
      entries.map(async ({ key }) => ({ key: number(key), value: (await map.stack(number(key))) ?? [] })),
    );
    if (json) return JSON.stringify(stacks);
    return stacks
      .map(({ key, value }) => [`${key}:`, ...value.map((frame) => `        ${frame}`)].join('\n'))
      .join('\n');
  }
  if (map.spec.type === 'prog_array') {
    const held = entries.map(({ key, values }) => ({
      key: number(key),
      value: programs.find(({ id }) => id === number(values[0]!))?.spec.name,
    }));
    return json ? JSON.stringify(held) : held.map(({ key, value }) => `${key}: ${value}`).join('\n');
  }
  return entriesText({ object }, map.spec, entries, map.object, json);
}
