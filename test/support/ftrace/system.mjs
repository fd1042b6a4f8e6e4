// A simulated Linux for the kernel's ftrace selftests: declared symbols and memory, and tasks that are the machine's own
// (tasks.mjs): a fork that the tests make hits a probe on kernel_clone and fires sched_process_fork.

import { symbolTable, TYPES } from '../golden/symbols.mjs';
import { staticEvents } from './events.mjs';
import { Tasks } from './tasks.mjs';

const NCPU = 2;
const PRIO = 120;
const TRACE_EVENT_FL_TRACEPOINT = 1 << 4;
/** The patched entry of a function: behind it an instruction is one byte. */
const ENTRY_BYTES = 5n;
const STACK = 0xffffc90000b27e48n;
/** Functions that the tests name and the table of the recordings does not have, and as many more as one test wants to probe. */
const FUNCTIONS = ['do_exit', 'inet_csk_accept', 'tracefs_create_dir', 'do_iter_readv.isra.0'];
const MORE_FUNCTIONS = 300;
const FUNCTION_SIZE = 0x200;
/** System calls behind FUSE's requests: open, read, write, mkdir, rmdir. */
const SYSCALLS = { 9: 83, 11: 84, 14: 257, 15: 0, 16: 1 };
/** A fork of this system takes memory, and its end gives some back. */
const TASK_BYTES = 192;
const TASK_PLACE = 0xffff888004000000n;
const NAME_PLACE = 0xffff888003000000n;
const encoder = new TextEncoder();

/** The symbols of the recordings and the further ones, by address; `[address, bytes]` of what is data. */
function symbols() {
  const table = symbolTable();
  const all = [...table.symbols];
  let address = 0xffffffff81800000n;
  const names = [...FUNCTIONS, ...Array.from({ length: MORE_FUNCTIONS }, (_, n) => `simulated_${n}`)];
  for (const name of names) {
    all.push({ name, address, size: FUNCTION_SIZE, module: undefined });
    address += BigInt(FUNCTION_SIZE);
  }
  const banner = encoder.encode('%s version %s (builder@simulated) (cc) %s\n\0');
  const data = [
    ['_sdata', 0xffffffff82800000n, new Uint8Array(64)],
    ['linux_proc_banner', 0xffffffff82700000n, banner],
  ];
  for (const [name, at, bytes] of data) {
    all.push({ name, address: at, size: bytes.length, module: undefined, data: true, blacklisted: true });
    table.memory.push({ address: at, bytes });
  }
  all.sort((a, b) => (a.address < b.address ? -1 : 1));
  return { symbols: all, memory: table.memory };
}

export class FtraceSystem {
  #probes = new Set();
  #memory;
  #events = new Map();
  #tasks = new Tasks((kind, values) => this.#happened(kind, values));
  #current = { pid: process.pid, comm: 'node' };
  #stack = [];
  #name = new Uint8Array();

  constructor(modules) {
    const { Tracing, RingBuffer, TraceEventCall, filterTypeOf, KernelError, openTracefs } = modules;
    const { symbols: table, memory } = symbols();
    this.symbols = table;
    this.#memory = memory;
    const named = Map.groupBy === undefined ? group(table) : Map.groupBy(table, ({ name }) => name);
    const start = process.hrtime.bigint();
    const at = (address) =>
      table.findLast((one) => address >= one.address && address < one.address + BigInt(one.size));
    this.tracing = new Tracing({
      arch: {
        ncpu: NCPU,
        now: (clock) => now(clock, start),
        current: () => ({
          pid: this.#current.pid,
          tgid: this.#current.pid,
          comm: this.#current.comm,
          cpu: 0,
        }),
        uname: () => ({ release: '6.12.0-simulated', preemption: 'desktop' }),
        stackTrace: () => this.#stack,
        userStackTrace: () => [],
        lookupSymbol: (name, module) => (module === undefined ? (named.get(name) ?? []) : []),
        lookupAddress: at,
        hasModule: () => false,
        functions: () => table.filter(({ data, blacklisted }) => !data && !blacklisted),
        lookupType: (name) => TYPES[name],
        instructionBoundary: (address) => {
          const offset = address - (at(address)?.address ?? address);
          return offset === 0n || offset >= ENTRY_BYTES;
        },
        adjustProbeAddress: (symbol, offset) => ({ address: symbol.address + offset, entry: offset === 0n }),
        armProbe: (place, hit) => {
          const symbol = at(place.address);
          if (symbol === undefined || symbol.blacklisted || symbol.data)
            throw new KernelError('EINVAL', 'no probe can sit there');
          const probe = { ...place, hit };
          this.#probes.add(probe);
          return () => this.#probes.delete(probe);
        },
      },
      createBuffer: (ncpu, sizeKb, clock) => new RingBuffer(ncpu, sizeKb, clock),
    });
    const classes = new Map();
    for (const { system, name, fields, printFmt, size } of staticEvents(filterTypeOf)) {
      if (!classes.has(system)) classes.set(system, { system, reg: () => undefined });
      const flags = TRACE_EVENT_FL_TRACEPOINT;
      const call = new TraceEventCall({ class: classes.get(system), name, fields, printFmt, flags });
      this.tracing.addEvent(call);
      this.#events.set(name, { call, size });
    }
    this.fs = openTracefs(this.tracing);
    // A new event's folder is made by a function of this system too.
    const { tracing } = this;
    const add = tracing.addEvent.bind(tracing);
    tracing.addEvent = (call) => {
      this.#name = encoder.encode(`${call.name}\0`);
      this.#call('tracefs_create_dir', 0n, { di: NAME_PLACE });
      add(call);
    };
  }

  /** What `/proc/kallsyms` would show: functions that share a name are local. */
  kallsyms() {
    return this.symbols
      .map(
        (symbol) => `${symbol.address.toString(16).padStart(16, '0')} ${this.#type(symbol)} ${symbol.name}\n`,
      )
      .join('');
  }

  #type({ name, data }) {
    if (data) return 'D';
    return this.symbols.filter((one) => one.name === name).length > 1 ? 't' : 'T';
  }

  /** A request to the mount is made by this thread. */
  request(pid, opcode) {
    this.#current = this.#tasks.observe(pid);
    const id = SYSCALLS[opcode];
    if (id !== undefined) this.#fire('sys_exit', { id, ret: 0 });
  }

  #happened(kind, values) {
    if (kind === 'fork') {
      const { parent, child } = values;
      this.#as(parent, () => {
        this.#call('kernel_clone', BigInt(child.pid));
        this.#fire('kmalloc', {
          call_site: this.#inside('kernel_clone'),
          ptr: TASK_PLACE,
          bytes_req: TASK_BYTES - 12,
          bytes_alloc: TASK_BYTES,
          gfp_flags: 0xcc0,
          node: -1,
        });
        this.#fire('sched_process_fork', {
          parent_comm: parent.comm,
          parent_pid: parent.pid,
          child_comm: child.comm,
          child_pid: child.pid,
        });
        this.#wakeup('sched_wakeup_new', child);
      });
    } else if (kind === 'exec') {
      const { pid, file } = values;
      this.#as(values, () => this.#fire('sched_process_exec', { filename: file, pid, old_pid: pid }));
    } else if (kind === 'exit') {
      const { pid, comm } = values;
      this.#as(values, () => {
        this.#fire('kmem_cache_free', { call_site: this.#inside('do_exit'), ptr: TASK_PLACE, name: 'task' });
        this.#fire('sched_process_exit', { comm, pid, prio: PRIO });
      });
    } else if (kind === 'switch') {
      const { from, to } = values;
      this.#as(from, () => {
        this.#wakeup('sched_waking', to);
        this.#wakeup('sched_wakeup', to);
        this.#fire('sched_switch', {
          prev_comm: from.comm,
          prev_pid: from.pid,
          prev_prio: PRIO,
          prev_state: 1,
          next_comm: to.comm,
          next_pid: to.pid,
          next_prio: PRIO,
        });
      });
    }
  }

  /** An address behind a call within a function. */
  #inside(name) {
    return this.symbols.find((symbol) => symbol.name === name).address + 0x40n;
  }

  #wakeup(name, { comm, pid }) {
    this.#fire(name, { comm, pid, prio: PRIO, target_cpu: 0 });
  }

  #as(task, run) {
    const before = this.#current;
    this.#current = task;
    this.#stack = ['schedule', 'do_syscall_64', 'entry_SYSCALL_64_after_hwframe']
      .map((name) => this.symbols.find((symbol) => symbol.name === name)?.address)
      .filter((address) => address !== undefined)
      .map((address) => address + 5n);
    try {
      run();
    } finally {
      this.#current = before;
    }
  }

  /** A call of a function and its return: probes on both. */
  #call(name, retval, args = {}) {
    const symbol = this.symbols.find((one) => one.name === name);
    const context = (registers) => ({
      register: (register) => BigInt.asUintN(64, registers[register] ?? 0n),
      read: (address, length) => this.#read(BigInt.asUintN(64, address), length),
      readString: (address, max) => this.#readString(BigInt.asUintN(64, address), max),
      entryValue: () => 0n,
      comm: this.#current.comm,
    });
    for (const ret of [false, true])
      for (const probe of [...this.#probes]) {
        if (probe.ret !== ret || (ret ? probe.address !== symbol.address : !within(symbol, probe.address)))
          continue;
        const registers = {
          ...args,
          sp: STACK,
          ip: probe.address + (ret ? 0x20n : 1n),
          ...(ret ? { ax: retval } : {}),
        };
        probe.hit(context(registers), 0, this.tracing.globalTrace.now(), this.#current.pid);
      }
  }

  #read(address, length) {
    if (address >= STACK && address + BigInt(length) <= STACK + 0x1b8n) return new Uint8Array(length);
    const piece = [...this.#memory, { address: NAME_PLACE, bytes: this.#name }].find(
      (one) => address >= one.address && address + BigInt(length) <= one.address + BigInt(one.bytes.length),
    );
    return piece?.bytes.slice(Number(address - piece.address), Number(address - piece.address) + length);
  }

  #readString(address, max) {
    const bytes = [];
    while (bytes.length < max) {
      const byte = this.#read(address + BigInt(bytes.length), 1);
      if (byte === undefined) return undefined;
      bytes.push(bytes.length === max - 1 ? 0 : byte[0]);
      if (bytes.at(-1) === 0) break;
    }
    return Uint8Array.from(bytes);
  }

  #fire(name, values) {
    const { call, size } = this.#events.get(name);
    if (call.users === 0) return;
    const strings = [];
    let end = size;
    for (const { name: field, type } of call.fields) {
      if (!type.startsWith('__data_loc')) continue;
      const bytes = encoder.encode(`${values[field]}\0`);
      strings.push([end, bytes]);
      values[field] = (bytes.length << 16) | end;
      end += bytes.length;
    }
    const data = new Uint8Array(Math.ceil(end / 4) * 4);
    const view = new DataView(data.buffer);
    view.setUint16(0, call.id, true);
    view.setInt32(4, this.#current.pid, true);
    for (const field of call.fields) {
      const value = values[field.name];
      if (typeof value === 'string')
        data.set(encoder.encode(value).subarray(0, field.size - 1), field.offset);
      else if (field.size === 8) view.setBigInt64(field.offset, BigInt(value), true);
      else view.setInt32(field.offset, value, true);
    }
    for (const [at, bytes] of strings) data.set(bytes, at);
    this.tracing.commit(call, { cpu: 0, ts: this.tracing.globalTrace.now(), data });
  }
}

function within(symbol, address) {
  return address >= symbol.address && address < symbol.address + BigInt(symbol.size);
}

function group(table) {
  const map = new Map();
  for (const symbol of table) map.set(symbol.name, [...(map.get(symbol.name) ?? []), symbol]);
  return map;
}

function now(clock, start) {
  const elapsed = process.hrtime.bigint() - start + 1_000_000_000n;
  switch (clock) {
    case 'uptime':
      return elapsed / 4_000_000n;
    case 'x86-tsc':
      return elapsed * 3n;
    case 'tai':
      return BigInt(Date.now()) * 1_000_000n;
    case 'local':
    case 'global':
    case 'perf':
    case 'mono':
    case 'mono_raw':
    case 'boot':
      return elapsed;
    default:
      return undefined;
  }
}
