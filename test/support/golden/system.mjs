// A simulated Linux 6.12 for the replay: symbols, static events that never fire by themselves, and `orc`, the program that the
// recordings drive: it calls openat2() with known registers and memory, which hits probes on do_sys_openat2.

import { staticEvents } from './events.mjs';
import { lookupType, tracepointParams } from './kernel-types.mjs';
import { instructionAt, MODULES, symbolTable, syscallName } from './symbols.mjs';

const NCPU = 2;
/** The first id that is not built in. */
const FIRST_ID = 20;
const RETURN_OFFSET = 0xa6n;
const NAMES = ['/alpha', '/beta/gamma', '/x', '/a longer name with spaces.txt'];
const NAME_PLACES = [0x10001000n, 0x10001040n, 0x10001080n, 0x100010c0n];
const PATTERN = 0x10000000n;
const KERNEL_HOW = 0xffa0000000ce7c10n;
const STACK = 0xffa0000000b27e48n;
const EINVAL = -22n;
const KERNEL_CODE = 0xffffffff81000000n;
const KERNEL_DATA = 0xffffffff82000000n;
const KERNEL_END = 0xffffffff84000000n;
/** What tracepoints call, as far as their records show it. */
const TRACEPOINTS_PLACE = 0xffffffff81000040n;
const USER_END = 1n << 47n;
/** What orc maps: its patterns and names, and zeros between and behind them. */
const ORC_SIZE = 0x2000;

const text = new TextEncoder();
const u64 = (value) => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes;
};

/** Memory in pieces. */
class Memory {
  #pieces;
  constructor(pieces) {
    this.#pieces = pieces;
  }
  read(address, length) {
    const bytes = new Uint8Array(length);
    for (let n = 0; n < length; n++) {
      const at = address + BigInt(n);
      const piece = this.#pieces.find(
        (one) => at >= one.address && at < one.address + BigInt(one.bytes.length),
      );
      if (piece === undefined) return undefined;
      bytes[n] = piece.bytes[Number(at - piece.address)];
    }
    return bytes;
  }
  readString(address, max) {
    // strncpy_from_user_nofault() counts nothing for an empty string, which prints as a fault; the kernel's own memory has one byte.
    if (address < USER_END && this.read(address, 1)?.[0] === 0) return undefined;
    const bytes = [];
    for (let n = 0; n < max; n++) {
      const byte = this.read(address + BigInt(n), 1);
      if (byte === undefined) return undefined;
      if (n === max - 1) bytes.push(0);
      else bytes.push(byte[0]);
      if (bytes.at(-1) === 0) break;
    }
    return Uint8Array.from(bytes);
  }
}

export class GoldenSystem {
  constructor(modules, folders) {
    const { Tracing, RingBuffer, TraceEventCall, filterTypeOf, KernelError, openTracefs } = modules;
    const { symbols, memory } = symbolTable();
    this.modules = modules;
    this.symbols = symbols;
    this.memory = memory;
    this.probes = new Set();
    /** Where probes sit, in the order in which they came there. */
    this.places = new Map();
    this.task = { pid: 162, tgid: 162, comm: 'batch', cpu: 0 };
    this.pid = 200;
    this.clock = 3_000_000_000n;
    this.pending = [];
    this.arch = {
      ncpu: NCPU,
      now: (clock) => this.now(clock),
      current: () => this.task,
      uname: () => ({ release: '6.12.117+deb12-amd64', preemption: 'desktop' }),
      stackTrace: () => this.stack ?? [],
      userStackTrace: () => [0x439e49n],
      lookupSymbol: (name, module) =>
        symbols.filter(
          (symbol) => symbol.name === name && (module === undefined || symbol.module === module),
        ),
      lookupAddress: (address) =>
        symbols.find(
          (symbol) => address >= symbol.address && address < symbol.address + BigInt(symbol.size),
        ) ?? unnamed(address),
      syscallName,
      hasModule: (name) => MODULES.includes(name),
      functions: () => symbols.filter(({ entry }) => entry !== false),
      enabledFunctions: () =>
        symbols.flatMap((symbol) => {
          const users = [...this.probes].filter(({ address }) => address === symbol.address).length;
          return users > 0 ? [[symbol, users]] : [];
        }),
      lookupType,
      // They have places, but nothing calls them by itself.
      lookupTracepoint: (name) => {
        const params = tracepointParams(name);
        const address = TRACEPOINTS_PLACE;
        return params && { params, address, exclusive: true, arm: () => () => undefined };
      },
      // Where nothing is known of the code, only the patched entry is an instruction that a probe cannot sit within.
      instructionBoundary: (address) => {
        const symbol = this.arch.lookupAddress(address);
        if (symbol?.unnamed) return false;
        const known =
          symbol === undefined ? undefined : instructionAt(symbol.name, Number(address - symbol.address));
        return known ?? !this.within(address, 1n, 15n);
      },
      adjustProbeAddress: (symbol, offset) =>
        symbol.endbr && (offset === 0n || offset === 4n)
          ? { address: symbol.address + 4n, entry: true }
          : { address: symbol.address + offset, entry: offset === 0n },
      armProbe: (at, hit) => {
        const symbol = this.arch.lookupAddress(at.address);
        if (symbol === undefined || symbol.blacklisted || symbol.data)
          throw new KernelError('EINVAL', 'no probe can sit there');
        if (!this.places.has(at)) this.places.set(at, this.places.size);
        const probe = { ...at, hit, order: this.places.get(at) };
        this.probes.add(probe);
        return () => this.probes.delete(probe);
      },
    };
    this.tracing = new Tracing({
      arch: this.arch,
      createBuffer: (ncpu, sizeKb, now) => new RingBuffer(ncpu, sizeKb, now),
    });
    for (const name of ['function', 'function_graph', 'mmiotrace', 'blk'])
      this.tracing.registerTracer({
        name,
        options: TRACER_OPTIONS[name] ?? {},
        allowInstances: name.startsWith('function'),
      });
    // Those whose ids are recorded come first, so that no other gets one of theirs.
    const declared = cachedEvents([folders].flat(), filterTypeOf);
    const taken = new Set(declared.map(({ id }) => id));
    let next = FIRST_ID;
    for (const { system: group, name, id, fields, printFmt } of declared) {
      const call = new TraceEventCall({ class: groupClass(group), name, fields, printFmt, flags: 1 << 4 });
      while (id === 0 && taken.has(next)) next++;
      call.id = id === 0 ? next++ : id;
      this.tracing.addEvent(call);
    }
    this.fs = openTracefs(this.tracing);
    // Its functions are never called, but what shall happen then can be said.
    const { functions } = this.tracing.globalTrace;
    functions.filter.command = (...args) => functions.commands.apply(...args);
  }

  /** Whether an address is `from` to `to` bytes behind a function's entry. */
  within(address, from, to) {
    const symbol = this.arch.lookupAddress(address);
    return symbol !== undefined && address - symbol.address >= from && address - symbol.address <= to;
  }

  now(clock) {
    this.clock += 3_000n;
    switch (clock) {
      case 'uptime':
        return this.clock / 4_000_000n;
      case 'x86-tsc':
        return this.clock * 3n;
      case 'tai':
        return 1_795_358_913_000_000_000n + this.clock;
      case 'local':
      case 'global':
      case 'perf':
      case 'mono':
      case 'mono_raw':
      case 'boot':
        return this.clock;
      default:
        return undefined;
    }
  }

  /** One openat2() of orc: entry, then return. */
  call(registers, memory, stack) {
    const all = new Memory([...memory, ...this.memory, ...this.code()]);
    const entry = this.symbols.find(({ name }) => name === 'do_sys_openat2');
    const caller = this.symbols.find(({ name }) => name === '__do_sys_openat2');
    const returnTo = caller.address + RETURN_OFFSET;
    // __do_sys_openat2() has the directory in ebx, the name in rbp and the flags in rax when it calls.
    const dfd = BigInt.asUintN(32, registers.di);
    const base = {
      sp: STACK,
      bp: registers.si,
      bx: dfd,
      ax: stack[0],
      flags: 0x282n,
      ss: 0x18n,
      cs: 0x10n,
      orig_ax: 0n,
      ...registers,
      di: dfd,
    };
    const frames = ['do_syscall_64', 'entry_SYSCALL_64_after_hwframe'].map(
      (name) => this.symbols.find((symbol) => symbol.name === name).address + 5n,
    );
    const context = (regs) => ({
      register: (name) => BigInt.asUintN(64, regs[name] ?? 0n),
      read: (address, length) => all.read(BigInt.asUintN(64, address), length),
      readString: (address, max) => all.readString(BigInt.asUintN(64, address), max),
      entryValue: (n) => BigInt.asUintN(64, [dfd, registers.si, registers.dx][n] ?? 0n),
      comm: this.task.comm,
    });
    const stackBytes = [{ address: STACK, bytes: joined([u64(returnTo), ...stack.map(u64)]) }];
    const withStack = new Memory([...stackBytes, ...memory, ...this.memory, ...this.code()]);
    const enter = context({ ...base, ip: entry.address + 1n });
    enter.read = (address, length) => withStack.read(BigInt.asUintN(64, address), length);
    this.stack = [entry.address, returnTo, ...frames];
    this.hit(entry.address, false, enter);
    const afterStack = new Memory([
      { address: STACK + 8n, bytes: joined(stack.map(u64)) },
      ...memory,
      ...this.memory,
      ...this.code(),
    ]);
    const leave = context({ ...base, ax: EINVAL, ip: returnTo, sp: STACK + 8n });
    leave.read = (address, length) => afterStack.read(BigInt.asUintN(64, address), length);
    this.stack = [returnTo, ...frames];
    this.hit(entry.address, true, leave);
    this.stack = undefined;
  }

  hit(address, ret, context) {
    // The latest probe runs first, as the kernel's list of handlers has it.
    for (const probe of [...this.probes].sort((a, b) => b.order - a.order))
      if (probe.address === address && probe.ret === ret)
        probe.hit(context, this.task.cpu, this.now('local'), this.task.pid);
  }

  code() {
    const read = this.symbols.find(({ name }) => name === 'vfs_read');
    return [{ address: read.address, bytes: Uint8Array.from([0x66, 0x0f, 0x1f, 0, 0x0f, 0x1f, 0x44, 0]) }];
  }

  /** `orc [-k] seq A B`, `orc rep N`, `orc pat`. Without -k it turns tracing on around its calls. */
  orc(args) {
    const keep = args[0] === '-k';
    const [kind, first, second] = keep ? args.slice(1) : args;
    const before = this.task;
    const pid = this.pid++;
    this.task = { pid, tgid: pid, comm: 'orc', cpu: 0 };
    if (!keep) this.tracing.globalTrace.tracingOn = true;
    try {
      if (kind === 'seq')
        for (let i = Number(first); i <= Number(second); i++)
          this.open(i, NAMES[((i % 4) + 4) % 4], BigInt(i * i) | 0x8000n, i & 7, 0x1000 + i);
      else if (kind === 'rep') for (let i = 0; i < Number(first); i++) this.open(3, NAMES[0], 0x8001n, 2, 3);
      else if (kind === 'pat') this.pattern();
      else throw new Error(`orc ${kind} is not simulated`);
    } finally {
      if (!keep) this.tracing.globalTrace.tracingOn = false;
      this.task = before;
    }
  }

  open(dfd, name, flags, mode, resolve) {
    const page = new Uint8Array(ORC_SIZE);
    page.set(text.encode(name), Number(NAME_PLACES[0] - PATTERN));
    const memory = [
      { address: PATTERN, bytes: page },
      { address: KERNEL_HOW, bytes: joined([u64(flags), u64(BigInt(mode)), u64(BigInt(resolve))]) },
    ];
    this.call({ di: BigInt(dfd), si: NAME_PLACES[0], dx: KERNEL_HOW }, memory, [flags, BigInt(mode)]);
  }

  /** The memory that the first line of fetch_values.txt describes. */
  pattern() {
    const bytes = new Uint8Array(ORC_SIZE);
    for (let i = 0; i < 64; i++) bytes[i] = (i * 37 + 1) & 255;
    bytes[63] = 0;
    bytes.set(u64(NAME_PLACES[0]), 0x40);
    bytes.set(u64(PATTERN + 0x80n), 0x48);
    bytes.set(u64(0x1122334455667788n), 0x80);
    bytes.set(u64(NAME_PLACES[1]), 0x88);
    for (let n = 0; n < 8; n++) bytes.set(u64(NAME_PLACES[n % 4]), 0x100 + 8 * n);
    for (const [n, name] of NAMES.entries()) bytes.set(text.encode(name), Number(NAME_PLACES[n] - PATTERN));
    const how = [0x8000000000008001n, 0xdeadbeefcafebaben, 0x0123456789abcdefn];
    const memory = [
      { address: PATTERN, bytes },
      { address: KERNEL_HOW, bytes: joined(how.map(u64)) },
    ];
    this.call({ di: -100n, si: PATTERN, dx: KERNEL_HOW }, memory, [how[0], how[1], how[2]]);
  }
}

const TRACER_OPTIONS = {
  function: { 'func-no-repeats': false, func_stack_trace: false },
  function_graph: {
    'funcgraph-abstime': false,
    'funcgraph-cpu': true,
    'funcgraph-duration': true,
    'funcgraph-irqs': true,
    'funcgraph-overhead': true,
    'funcgraph-overrun': false,
    'funcgraph-proc': false,
    'funcgraph-tail': false,
    'sleep-time': true,
  },
  blk: { blk_cgname: false, blk_cgroup: false, blk_classic: false },
};

/** What is between the symbols that are named here: code, then data. The kernel has a symbol everywhere. */
function unnamed(address) {
  if (address < KERNEL_CODE || address >= KERNEL_END) return undefined;
  const size = 0x1000;
  const data = address >= KERNEL_DATA ? { data: true, blacklisted: true, entry: false } : {};
  return {
    name: 'unnamed',
    address: BigInt.asUintN(64, address & ~0xfffn),
    size,
    module: undefined,
    unnamed: true,
    ...data,
  };
}

const classes = new Map();
function groupClass(system) {
  if (!classes.has(system)) classes.set(system, { system, reg: () => undefined });
  return classes.get(system);
}

const events = new Map();
function cachedEvents(folders, filterTypeOf) {
  const key = folders.join('\n');
  if (!events.has(key)) events.set(key, staticEvents(folders, filterTypeOf));
  return events.get(key);
}

function joined(parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
