// A simulated Linux for the kernel's ftrace selftests: declared symbols and memory, and tasks that are the machine's own
// (tasks.mjs): a fork that the tests make hits a probe on kernel_clone and fires sched_process_fork.

import { lookupType } from '../golden/kernel-types.mjs';
import { symbolTable } from '../golden/symbols.mjs';
import { staticEvents } from './events.mjs';
import { Tasks } from './tasks.mjs';

const NCPU = 2;
const PRIO = 120;
const SIGCHLD = 17;
const TRACE_EVENT_FL_TRACEPOINT = 1 << 4;
/** The patched entry of a function: behind it an instruction is one byte. */
const ENTRY_BYTES = 5n;
const STACK = 0xffffc90000b27e48n;
/** Functions that the tests name, as many more as one test wants to probe, and what they call. */
const FUNCTIONS =
  `do_exit inet_csk_accept tracefs_create_dir do_iter_readv.isra.0 dput proc_reg_write do_execveat_common sched_tick
  scheduler_tick _raw_spin_lock _raw_spin_unlock _raw_spin_trylock mutex_lock mutex_unlock mutex_trylock pin_user_lock clk_unlock
  rcu_note_context_switch sys_perf_refcount_enter`.split(/\s+/);
const MORE_FUNCTIONS = 300;
const FUNCTION_SIZE = 0x200;
const pointer = (name, type) => ({ name, type: `${type} *` });
/** What BTF tells of some more. */
const PROTOTYPES = {
  getname_flags: [[pointer('filename', 'const char'), { name: 'flags', type: 'int' }], 'struct filename *'],
};
const OPENAT = 257;
const GETATTR = 3;
/** System calls behind FUSE's requests: open, read, write, mkdir, rmdir, and a folder's open. */
const SYSCALLS = { 9: 83, 11: 84, 14: OPENAT, 15: 0, 16: 1, 27: OPENAT };
/** A fork of this system takes memory, and its end gives some back. */
const TASK_BYTES = 192;
const TASK_PLACE = 0xffff888004000000n;
const NAME_PLACE = 0xffff888003000000n;
/** `struct file`, `struct dentry`, the dentry's name, and the user's text of a path, while a call has them as arguments. */
const FILE_PLACE = 0xffff888005000000n;
const DENTRY_PLACE = 0xffff888006000000n;
const DENTRY_NAME_PLACE = 0xffff888006001000n;
const USER_PLACE = 0x7f0000001000n;
const FILE_DENTRY = 72;
const DENTRY_NAME = 40;
const TRACING = '/sys/kernel/tracing';
const EIO = -5n;
const encoder = new TextEncoder();
const ARGUMENTS = ['di', 'si', 'dx', 'cx', 'r8', 'r9'];

const TRACEPOINTS = {
  kfree: [{ name: 'call_site', type: 'unsigned long' }, pointer('ptr', 'const void')],
  kmem_cache_alloc: [
    { name: 'call_site', type: 'unsigned long' },
    pointer('ptr', 'const void'),
    pointer('s', 'struct kmem_cache'),
    { name: 'gfp_flags', type: 'unsigned int' },
    { name: 'node', type: 'int' },
  ],
  kmem_cache_free: [
    { name: 'call_site', type: 'unsigned long' },
    pointer('ptr', 'const void'),
    pointer('s', 'const struct kmem_cache'),
  ],
  sched_wakeup: [pointer('p', 'struct task_struct')],
};
const member = (name, type, bitOffset) => ({ name, type, bitOffset });
const struct = (...members) => ({ kind: 'struct', members });
/** Types behind those, as far as they are named. */
const MORE_TYPES = {
  'struct kmem_cache': struct(member('size', 'unsigned int', 0), member('object_size', 'unsigned int', 32)),
  'struct list_head': struct(
    member('next', 'struct list_head *', 0),
    member('prev', 'struct list_head *', 64),
  ),
  'struct sched_entity': struct(member('group_node', 'struct list_head', 0)),
  'struct task_struct': struct(member('se', 'struct sched_entity', 0)),
};

/** The symbols of the recordings and the further ones, by address; `[address, bytes]` of what is data. */
function symbols() {
  const table = symbolTable();
  const all = [...table.symbols];
  let address = 0xffffffff81800000n;
  const known = new Set(all.map(({ name }) => name));
  const names = [
    ...FUNCTIONS,
    ...Object.keys(PROTOTYPES),
    ...Array.from({ length: MORE_FUNCTIONS }, (_, n) => `simulated_${n}`),
  ].filter((name) => !known.has(name));
  for (const name of names) {
    const [params, returnType] = PROTOTYPES[name] ?? [];
    all.push({ name, address, size: FUNCTION_SIZE, module: undefined, params, returnType });
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
  #functionProbes = new Set();
  #byName = new Map();
  #memory;
  /** What is at an address for the time of a call. */
  #pieces = new Map();
  #events = new Map();
  #tasks = new Tasks((kind, values) => this.#happened(kind, values));
  #current = { pid: process.pid, comm: 'node' };
  #stack = [];

  constructor(modules) {
    const { Tracing, RingBuffer, TraceEventCall, filterTypeOf, KernelError, openTracefs } = modules;
    const { symbols: table, memory } = symbols();
    this.symbols = table;
    this.#memory = memory;
    for (const symbol of table) this.#byName.set(symbol.name, symbol);
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
        readString: (address, max) => this.#readString(address, max),
        lookupType: (name) => lookupType(name) ?? MORE_TYPES[name],
        lookupTracepoint: (name) => {
          const params = TRACEPOINTS[name];
          if (params === undefined) return undefined;
          const address = this.symbolOf(name)?.address ?? this.symbolOf('schedule').address;
          return { params, address, arm: () => () => undefined };
        },
        traceFunctions: (wants, hit) => {
          const probe = { wants, hit, functions: new Set() };
          this.#functionProbes.add(probe);
          return {
            set: (functions) => {
              probe.functions = new Set(functions.map(({ address }) => address));
            },
            stop: () => this.#functionProbes.delete(probe),
          };
        },
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
      this.#pieces.set(NAME_PLACE, encoder.encode(`${call.name}\0`));
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

  start() {
    this.#tasks.start();
  }

  stop() {
    this.#tasks.stop();
  }

  symbolOf(name) {
    return this.#byName.get(name);
  }

  /** A request to the mount is made by this thread. `file`: the path below the folder. */
  request(pid, opcode, file) {
    this.#current = this.#tasks.observe(pid);
    // As far as can be told: a chdir(2) to the folder looks at it.
    if (opcode === GETATTR && file === '') this.#enters('sys_enter_chdir', { filename: USER_PLACE }, TRACING);
    const id = SYSCALLS[opcode];
    if (id === undefined) return;
    if (id === OPENAT) this.#opens(file === '' ? '.' : `${TRACING}/${file ?? ''}`);
    else if (id === 0) this.#reads(file ?? '');
    this.#fire('sys_exit', { id, ret: 0 });
  }

  /** Something was done with a file elsewhere, by who runs. */
  touched(kind, file) {
    this.#tasks.look();
    if (kind === 'symlink') {
      this.#pieces.set(NAME_PLACE, encoder.encode(`${file}\0`));
      this.#call('vfs_symlink', 0n, { dx: NAME_PLACE });
    } else if (file.startsWith('/proc/')) this.#call('proc_reg_write', EIO);
    else this.#opens(file);
  }

  /** A system call with a path. */
  #enters(event, values, file) {
    this.#pieces.set(USER_PLACE, encoder.encode(`${file}\0`));
    this.#fire(event, { __syscall_nr: 0, ...values });
  }

  #opens(file) {
    const id = OPENAT;
    const values = { __syscall_nr: id, dfd: -100, filename: USER_PLACE, flags: 0, mode: 0 };
    this.#enters('sys_enter_openat', values, file);
    this.#call('do_sys_openat2', 3n, { di: -100n, si: USER_PLACE }, () => {
      this.#describe(file);
      this.#call('vfs_open', 0n, { di: FILE_PLACE + BigInt(FILE_DENTRY - 8), si: FILE_PLACE });
      this.#call('dput', 0n, { di: DENTRY_PLACE });
    });
    this.#fire('sys_exit_openat', { __syscall_nr: id, ret: 3 });
  }

  #reads(file) {
    this.#describe(file);
    this.#call('vfs_read', 0n, { di: FILE_PLACE });
  }

  /** The file's structures. */
  #describe(file) {
    this.#pieces.set(DENTRY_NAME_PLACE, encoder.encode(`${file.slice(file.lastIndexOf('/') + 1)}\0`));
    const pointer = (size, at, value) => {
      const bytes = new Uint8Array(size);
      new DataView(bytes.buffer).setBigUint64(at, value, true);
      return bytes;
    };
    this.#pieces.set(DENTRY_PLACE, pointer(192, DENTRY_NAME, DENTRY_NAME_PLACE));
    this.#pieces.set(FILE_PLACE, pointer(232, FILE_DENTRY, DENTRY_PLACE));
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
        this.tracing.taskForked(parent.pid, child.pid);
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
      this.#as(values, () => {
        this.#call('do_execveat_common', 0n);
        this.#fire('sched_process_exec', { filename: file, pid, old_pid: pid });
      });
    } else if (kind === 'exit') {
      const { pid, comm, parent } = values;
      this.#as(values, () => {
        this.#call('do_exit', 0n);
        this.#fire('kmem_cache_free', { call_site: this.#inside('do_exit'), ptr: TASK_PLACE, name: 'task' });
        this.#fire('sched_process_exit', { comm, pid, prio: PRIO });
        const to = { comm: '', pid: parent ?? 1 };
        this.#fire('signal_generate', { sig: SIGCHLD, errno: 0, code: 1, ...to, group: 1, result: 0 });
        this.tracing.taskExited(pid);
      });
    } else if (kind === 'timer') {
      this.#as(values, () => {
        this.#call('sched_tick', 0n);
        this.#fire('timer_cancel', { timer: TASK_PLACE });
      });
    } else if (kind === 'wakeup') {
      const { from, to } = values;
      this.#as(from, () => {
        this.#wakeup('sched_waking', to);
        this.#wakeup('sched_wakeup', to);
      });
    } else if (kind === 'switch') {
      const { from, to } = values;
      this.#as(from, () =>
        this.#call('schedule', 0n, {}, () => {
          this.#call('_raw_spin_lock', 0n);
          this.#call('rcu_note_context_switch', 0n);
          this.#fire('sched_switch', {
            prev_comm: from.comm,
            prev_pid: from.pid,
            prev_prio: PRIO,
            prev_state: 1,
            next_comm: to.comm,
            next_pid: to.pid,
            next_prio: PRIO,
          });
          this.#call('_raw_spin_unlock', 0n);
        }),
      );
    }
  }

  /** An address behind a call within a function. */
  #inside(name) {
    return this.symbolOf(name).address + 0x40n;
  }

  #wakeup(name, { comm, pid }) {
    this.#fire(name, { comm, pid, prio: PRIO, target_cpu: 0 });
  }

  #as(task, run) {
    const before = this.#current;
    this.#current = task;
    this.#stack = ['schedule', 'do_syscall_64', 'entry_SYSCALL_64_after_hwframe']
      .map((name) => this.symbolOf(name)?.address)
      .filter((address) => address !== undefined)
      .map((address) => address + 5n);
    try {
      run();
    } finally {
      this.#current = before;
    }
  }

  /** A call of a function and its return: probes on both, and function tracers. `inside`: what it calls. */
  #call(name, retval, args = {}, inside = () => undefined) {
    const symbol = this.symbolOf(name);
    this.#traced(symbol, { what: 'entry' });
    this.#probed(symbol, false, args);
    const outer = this.#caller;
    this.#caller = symbol.address + 0x40n;
    try {
      inside();
    } finally {
      this.#caller = outer;
    }
    this.#probed(symbol, true, args, retval);
    this.#traced(symbol, { what: 'return', retval: BigInt.asUintN(64, retval) });
  }

  #caller;

  #traced({ address }, call) {
    const { pid } = this.#current;
    const caller = this.#caller ?? this.symbolOf('do_syscall_64').address + 0x40n;
    const callers = [caller, this.symbolOf('entry_SYSCALL_64_after_hwframe').address + 4n];
    for (const { wants, hit, functions } of [...this.#functionProbes]) {
      if (!functions.has(address) || (call.what === 'return' && !wants.returns)) continue;
      const ts = this.tracing.arch.now('local');
      hit({ ...call, address, cpu: 0, ts, pid, failed: false, callers: callers.slice(0, wants.callers) });
    }
  }

  #probed(symbol, ret, args, retval) {
    const context = (registers) => ({
      register: (register) => BigInt.asUintN(64, registers[register] ?? 0n),
      read: (address, length) => this.#read(BigInt.asUintN(64, address), length),
      readString: (address, max) => this.#readString(BigInt.asUintN(64, address), max),
      entryValue: (arg) => BigInt.asUintN(64, args[ARGUMENTS[arg]] ?? 0n),
      comm: this.#current.comm,
    });
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
    for (const [at, bytes] of this.#pieces) {
      if (address >= at && address + BigInt(length) <= at + BigInt(bytes.length))
        return bytes.slice(Number(address - at), Number(address - at) + length);
    }
    const piece = this.#memory.find(
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
