import { RingBuffer } from '../../src/kernel/trace/ring-buffer/ring-buffer.ts';
import { dataView, writeEntry } from '../../src/kernel/trace/trace-entry.ts';
import { TraceEventCall } from '../../src/kernel/trace/trace-event.ts';
import { filterTypeOf, type TraceField } from '../../src/kernel/trace/trace-field.ts';
import { tracePrintk, tracePuts } from '../../src/kernel/trace/trace-printk.ts';
import { Tracing } from '../../src/kernel/trace/tracing.ts';
import { openTracefs, type Tracefs } from '../../src/tracefs/index.ts';

const FUNCTION = 0xffff_ffff_8100_0000n;
const SYMBOLS = ['vfs_read', 'vfs_write', 'do_exit'].map((name, n) => ({
  name,
  address: FUNCTION + BigInt(n) * 0x100n,
  size: 0x100,
  module: n === 2 ? 'app.js' : undefined,
}));
const COMMS: Record<number, string> = { 100: 'node', 101: 'a task with a lo', 70000: 'worker-7' };

/** A traced system of three CPUs whose clock only this moves, and whose events have fields of every kind. */
export class RecordedSystem {
  readonly fs: Tracefs;
  readonly tracing: Tracing;
  now = 1_000_000_000_000n;
  #task = { pid: 100, tgid: 100, comm: 'node', cpu: 0 };

  constructor(options: { bufferSizeKb?: number; ncpu?: number } = {}) {
    this.tracing = new Tracing({
      arch: {
        ncpu: options.ncpu ?? 3,
        now: (clock) => (['local', 'global', 'mono', 'x86-tsc'].includes(clock) ? this.now : undefined),
        current: () => this.#task,
        lookupSymbol: (name) => SYMBOLS.filter((symbol) => symbol.name === name),
        lookupAddress: (address) =>
          SYMBOLS.find((one) => address >= one.address && address < one.address + 0x100n),
        hasModule: () => false,
        functions: () => SYMBOLS,
        stackTrace: () => [FUNCTION + 0x10n, FUNCTION + 0x110n],
        armProbe: () => () => undefined,
      },
      createBuffer: (ncpu, sizeKb, now) => new RingBuffer(ncpu, sizeKb, now),
      bufferSizeKb: options.bufferSizeKb ?? 64,
    });
    this.fs = openTracefs(this.tracing);
  }

  /** From now on everything happens in this task. */
  task(pid: number, cpu: number): void {
    this.#task = { pid, tgid: pid, comm: COMMS[pid] ?? 'other', cpu };
  }

  event(
    name: string,
    specs: readonly (readonly [type: string, name: string, size: number, signed?: boolean])[],
    printFmt: string,
  ): TraceEventCall {
    let offset = 8;
    const fields = specs.map(([type, field, size, isSigned = false]): TraceField => {
      const align = type.includes('[') && !type.includes('__data_loc') ? 1 : size;
      offset = Math.ceil(offset / align) * align;
      const made = { name: field, type, offset, size, isSigned, filterType: filterTypeOf(type) };
      offset += size;
      return made;
    });
    const call = new TraceEventCall({ class: { system: 'shop' }, name, fields, printFmt });
    this.tracing.addEvent(call);
    return call;
  }

  /** One record; values by their fields, bytes for arrays and dynamic fields. */
  fire(
    call: TraceEventCall,
    values: Readonly<Record<string, bigint | Uint8Array>>,
    flags = 0,
    preempt = 0,
  ): void {
    const fixed = call.fields.reduce((end, field) => Math.max(end, field.offset + field.size), 8);
    const dynamic = call.fields.filter(({ type }) => type.includes('__data_loc'));
    const extra = dynamic.reduce((sum, { name }) => sum + (values[name] as Uint8Array).length, 0);
    const data = new Uint8Array(fixed + extra);
    writeEntry(data, call.id, this.#task.pid, flags, preempt);
    const view = dataView(data);
    let at = fixed;
    for (const { name, offset, size, type } of call.fields) {
      const value = values[name] as bigint | Uint8Array;
      if (typeof value === 'bigint') {
        for (let n = 0; n < size; n++) data[offset + n] = Number((value >> BigInt(8 * n)) & 0xffn);
      } else if (type.includes('__data_loc')) {
        view.setUint32(offset, ((value.length << 16) | at) >>> 0, true);
        data.set(value, at);
        at += value.length;
      } else data.set(value.subarray(0, size), offset);
    }
    this.tracing.commit(call, { cpu: this.#task.cpu, ts: this.now, data });
  }

  /** Events of every kind on all CPUs, at times that need extended stamps too; answers with how many records there are. */
  run(rounds: number): number {
    const numbers = this.event(
      'numbers',
      [
        ['u8', 'a', 1],
        ['s8', 'b', 1, true],
        ['u16', 'c', 2],
        ['s16', 'd', 2, true],
        ['u32', 'e', 4],
        ['s32', 'f', 4, true],
        ['u64', 'g', 8],
        ['s64', 'h', 8, true],
      ],
      '"a=%u b=%d c=%hu d=%05d e=0x%x f=%-6d| g=%llu %#llx h=%lld sum=%d %s", REC->a, REC->b, REC->c, REC->d, REC->e, REC->f, REC->g, REC->g, REC->h, REC->a + REC->c * 2, REC->a > 100 ? "big" : "small"',
    );
    const texts = this.event(
      'texts',
      [
        ['char[16]', 'comm', 16],
        ['__data_loc char[]', 'url', 4],
        ['__data_loc char[]', 'more', 4],
      ],
      '"comm=%s url=%s more=\\"%s\\" %10s|%-10s|%.3s", REC->comm, __get_str(url), __get_str(more), REC->comm, REC->comm, __get_str(url)',
    );
    const shapes = this.event(
      'shapes',
      [
        ['u32', 'flags', 4],
        ['u32', 'kind', 4],
        ['void *', 'ptr', 8],
        ['unsigned long', 'ip', 8],
        ['__data_loc u32[]', 'list', 4],
        ['u8[6]', 'mac', 6],
        ['u8[4]', 'addr', 4],
      ],
      '"flags=%s kind=%s ptr=%p ip=%pS (%ps) list=%d mac=%pM addr=%pI4 hex=%s", __print_flags(REC->flags, "|", { 1, "A" }, { 2, "B" }, { 0x10, "C" }), __print_symbolic(REC->kind, { 0, "none" }, { 1, "some" }), REC->ptr, (void *)REC->ip, (void *)REC->ip, __get_dynamic_array_len(list) / 4, REC->mac, REC->addr, __print_hex(REC->mac, 6)',
    );
    for (const { name } of [numbers, texts, shapes]) this.fs.writeFile(`events/shop/${name}/enable`, '1');
    const text = (value: string): Uint8Array => new TextEncoder().encode(`${value}\0`);
    const pids = Object.keys(COMMS).map(Number);
    let records = 0;
    for (let n = 0; n < rounds; n++) {
      const i = BigInt(n);
      this.now += n % 7 === 0 ? 1n << 28n : 1234n + i;
      this.task(pids[n % pids.length] as number, n % this.tracing.arch.ncpu);
      switch (n % 8) {
        case 0:
        case 1:
        case 2:
          this.fire(
            numbers,
            {
              a: i * 37n,
              b: -i,
              c: i * 1001n,
              d: -i * 3n,
              e: i * 0x1234567n,
              f: -i * 100001n,
              g: (1n << 63n) + i,
              h: -(1n << 40n) * i,
            },
            (n * 5) & 0x1d,
            n & 0x33,
          );
          break;
        case 3:
        case 4:
          this.fire(texts, {
            comm: text(`task ${n % 50}`),
            url: text(`/order/${n}?a=${'x'.repeat(n % 40)}`),
            more: text(n % 3 === 0 ? '' : 'größe'),
          });
          break;
        case 5:
          this.fire(shapes, {
            flags: i & 0x3fn,
            kind: i % 3n,
            ptr: n % 16 === 5 ? 0n : 0xffff_8880_0000_0000n + i,
            ip: FUNCTION + (i % 0x300n),
            list: new Uint8Array(Uint32Array.from([n, n * 2, n * 3].slice(0, n % 4)).buffer),
            mac: Uint8Array.of(n, 1, 2, 3, 4, 255),
            addr: Uint8Array.of(10, 0, n, 1),
          });
          break;
        case 6:
          this.fs.writeFile('trace_marker', `marker ${n}${n % 16 === 6 ? '\n' : ''}`);
          break;
        default:
          if (n % 16 === 7)
            tracePrintk(
              this.tracing,
              FUNCTION + 4n,
              'n=%d %s %lld %5u|\n',
              n,
              `text ${n}`,
              -i * 12345678901n,
              n,
            );
          else tracePuts(this.tracing, FUNCTION + 0x100n, 'a constant text\n');
      }
      records++;
    }
    return records;
  }
}
