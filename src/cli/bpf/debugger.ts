/** The commands of `trapline bpf step`: a line of text in, text out. */
import type { Interpreter } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import type { StopAt } from './debug-session.ts';
import type { DebugView } from './debug-view.ts';
import { diagnostic } from './files.ts';
import { findMap } from './load.ts';

interface Breakpoint {
  readonly number: number;
  readonly text: string;
  readonly pcs: ReadonlySet<number>;
}

interface DebugCommand {
  readonly names: readonly string[];
  readonly usage: string;
  readonly help: string;
  run(argument: string): string;
}

const MAX_DUMP = 4096;

export class Debugger {
  readonly #view: DebugView;
  readonly #breakpoints: Breakpoint[] = [];
  #lastNumber = 0;
  readonly #commands: readonly DebugCommand[];

  constructor(view: DebugView) {
    this.#view = view;
    this.#commands = this.#table();
  }

  banner(): string {
    const { program, spec } = this.#view.loaded;
    const what = spec === undefined ? program.type : `${spec.section}, ${program.type}`;
    return `${program.name} (${what}), ${program.verified.insns.length} instructions; help lists the commands\n${this.#view.place()}`;
  }

  /** The answer, or undefined to quit. Mistakes are answers, too. */
  execute(line: string): string | undefined {
    const [, name = '', argument = ''] = /^(\S*)\s*(.*)$/s.exec(line.trim()) ?? [];
    if (name === '') return '';
    if (name === 'quit' || name === 'q' || name === 'exit') return undefined;
    const command = this.#commands.find(({ names }) => names.includes(name));
    try {
      if (command !== undefined) return command.run(argument.trim());
      const names = this.#commands.map(({ names: [first] }) => first!);
      throw new TraplineError('EUSAGE', `no command ${name}`, {
        hint: didYouMean(name, names) ?? 'help lists the commands',
      });
    } catch (error) {
      if (typeof (error as { code?: unknown }).code !== 'string') throw error;
      return `${diagnostic(error as TraplineError)}\n`;
    }
  }

  complete(line: string): string[] {
    return this.#commands.flatMap(({ names }) => names).filter((name) => name.startsWith(line));
  }

  #table(): readonly DebugCommand[] {
    const view = this.#view;
    const { session, loaded } = view;
    const command = (
      names: string,
      usage: string,
      help: string,
      run: (argument: string) => string,
    ): DebugCommand => ({ names: names.split(' '), usage, help, run });
    return [
      command('step s', 'step [N]', 'one instruction, or N', (n) => {
        session.goto(session.moment + count(n));
        return view.place();
      }),
      command('next n', 'next', 'to the next line of source; calls are run through', () => this.#next()),
      command('finish f', 'finish', 'until the function returns', () => {
        const { depth } = session.vm;
        if (depth === 0) return this.#continue();
        session.forward((vm) => vm.depth < depth || this.#at(vm) !== undefined);
        return this.#place();
      }),
      command('continue c', 'continue', 'to the next breakpoint or the end', () => this.#continue()),
      command('back b', 'back [N]', 'one instruction backwards, or N', (n) => {
        session.goto(Math.max(0, session.moment - count(n)));
        return view.place();
      }),
      command('prev', 'prev', 'to the line of source before', () => this.#previous()),
      command(
        'reverse-continue rc',
        'reverse-continue',
        'back to the breakpoint before, or the start',
        () => {
          session.backward((vm) => this.#at(vm) !== undefined);
          return this.#place();
        },
      ),
      command('goto g', 'goto N', 'to the moment after N instructions', (n) => {
        session.goto(count(n, 'goto'));
        return view.place();
      }),
      command('restart', 'restart', 'to the start', () => {
        session.goto(0);
        return view.place();
      }),
      command(
        'break br',
        'break WHERE',
        'stop at a line (42, file.c:42), a function, or instruction *N',
        (where) => this.#break(where),
      ),
      command('delete d', 'delete N', 'take a breakpoint away', (n) => this.#delete(n)),
      command('breakpoints bl', 'breakpoints', 'list them', () =>
        this.#breakpoints.length === 0
          ? 'no breakpoints\n'
          : this.#breakpoints.map((one) => `${one.number}: ${one.text}\n`).join(''),
      ),
      command('regs r', 'regs', 'registers, and what they point to', () => view.registers()),
      command('stack', 'stack', 'the frame of the function, without zeros', () => view.stack()),
      command('where bt', 'where', 'the calls, the innermost first', () => view.calls()),
      command('list l', 'list', 'the source around', () => view.source()),
      command('disas', 'disas', 'the instructions around', () => view.disassembly()),
      command('print p', 'print NAME', 'a global variable, or a register', (name) => this.#print(name)),
      command('x', 'x ADDRESS [LENGTH]', 'memory: x r1 32, x r10-16, x 0x1000', (text) =>
        this.#examine(text),
      ),
      command('map m', 'map [NAME]', "a map's contents, or the list of maps", (name) => {
        if (name === '') {
          const names = [...loaded.maps].map(
            ([one, { spec, size }]) => `${one}: ${spec.type}, ${size} entries\n`,
          );
          return names.length === 0 ? 'no maps\n' : names.join('');
        }
        return view.map(name, findMap(loaded.maps, name));
      }),
      command('help h', 'help', 'this list', () =>
        [...this.#commands, { usage: 'quit', names: ['quit', 'q'], help: '' }]
          .map(({ usage, names, help }) => {
            const short = names.length > 1 ? ` (${names[1]})` : '';
            return `${(usage + short).padEnd(26)} ${help}`.trimEnd();
          })
          .map((line) => `${line}\n`)
          .join(''),
      ),
    ];
  }

  #at(vm: Interpreter): Breakpoint | undefined {
    return this.#breakpoints.find(({ pcs }) => pcs.has(vm.pc));
  }

  #place(): string {
    const { session } = this.#view;
    const hit = session.ended ? undefined : this.#at(session.vm);
    return `${hit === undefined ? '' : `breakpoint ${hit.number}, ${hit.text}\n`}${this.#view.place()}`;
  }

  #continue(): string {
    this.#view.session.forward((vm) => this.#at(vm) !== undefined);
    return this.#place();
  }

  #lineKey(pc: number): string {
    const line = this.#view.lineAt(pc);
    return line === undefined ? `insn ${pc}` : `${line.file}:${line.line}`;
  }

  #next(): string {
    const { session } = this.#view;
    const { depth, pc } = session.vm;
    const from = this.#lineKey(pc);
    session.forward(
      (vm) =>
        vm.depth < depth ||
        (vm.depth === depth && this.#lineKey(vm.pc) !== from) ||
        this.#at(vm) !== undefined,
    );
    return this.#place();
  }

  /** To the start of the line that ran before this one, in this function or its caller. */
  #previous(): string {
    const { session } = this.#view;
    const { depth, pc } = session.vm;
    const from = session.ended ? '' : this.#lineKey(pc);
    const isOther: StopAt = (vm) => vm.depth <= depth && this.#lineKey(vm.pc) !== from;
    if (session.backward(isOther)) {
      const line = this.#lineKey(session.vm.pc);
      const level = session.vm.depth;
      // The last instruction of that line was found: go on to its first.
      const isBefore: StopAt = (vm) => vm.depth <= level && this.#lineKey(vm.pc) !== line;
      const { moment } = session;
      const found = session.backward(isBefore);
      const first = found ? session.moment + 1 : 0;
      if (first < moment) session.goto(0);
      session.goto(first);
      if (session.vm.depth > level) session.forward((vm) => vm.depth <= level);
    }
    return this.#place();
  }

  #break(where: string): string {
    const pcs = this.#resolve(where);
    const number = ++this.#lastNumber;
    this.#breakpoints.push({ number, text: where, pcs });
    const at = [...pcs].join(', ');
    return `breakpoint ${number} at instruction${pcs.size === 1 ? '' : 's'} ${at}\n`;
  }

  #resolve(where: string): ReadonlySet<number> {
    const { loaded, insns } = this.#view;
    if (where === '')
      throw new TraplineError('EUSAGE', 'break where?', { hint: 'break 42, break function, break *7' });
    if (where.startsWith('*')) {
      const pc = count(where.slice(1), 'break *');
      if (pc >= insns.length) throw new TraplineError('EUSAGE', `there are ${insns.length} instructions`);
      return new Set([pc]);
    }
    const [, file, number] = /^(?:(.*):)?(\d+)$/.exec(where) ?? [];
    if (number === undefined) {
      const functions = loaded.spec?.functions ?? [];
      const func = functions.find(({ name }) => name === where);
      if (func !== undefined) return new Set([func.insn]);
      throw new TraplineError('ENOENT', `there is no function ${where}`, {
        hint: didYouMean(
          where,
          functions.map(({ name }) => name),
        ),
      });
    }
    const lines = (loaded.spec?.lineInfo ?? []).filter(
      (one) => file === undefined || one.file === file || one.file.endsWith(`/${file}`),
    );
    const wanted = Number(number);
    // A line without code means the next one that has some.
    const line = Math.min(...lines.map((one) => one.line).filter((one) => one >= wanted));
    if (!Number.isFinite(line)) {
      throw new TraplineError('ENOENT', `no instruction belongs to line ${where} or one behind it`, {
        hint: lines.length === 0 ? 'compile with -g; break *N stops at an instruction' : undefined,
      });
    }
    // A line's first instruction of each stretch.
    const pcs = new Set<number>();
    const all = loaded.spec!.lineInfo;
    for (const [n, one] of all.entries()) {
      const isWanted = one.line === line && lines.includes(one);
      const before = all[n - 1];
      if (isWanted && !(before?.line === line && before.file === one.file)) pcs.add(one.insn);
    }
    return pcs;
  }

  #delete(text: string): string {
    const at = this.#breakpoints.findIndex(({ number }) => number === Number(text));
    if (at < 0) throw new TraplineError('ENOENT', `there is no breakpoint ${text}`);
    this.#breakpoints.splice(at, 1);
    return '';
  }

  #print(name: string): string {
    const { session, loaded } = this.#view;
    const register = /^r(\d|10)$/.exec(name);
    if (register !== null) {
      const value = session.vm.regs[Number(register[1])]!;
      const what = this.#view.describe(value);
      return `${name} = 0x${value.toString(16)} (${what ?? BigInt.asIntN(64, value)})\n`;
    }
    if (loaded.globals === undefined || !loaded.globals.has(name)) {
      const names = [...(loaded.object?.globals ?? [])].map((one) => one.name);
      throw new TraplineError('ENOENT', `there is no global variable ${name}`, {
        hint: didYouMean(name, names),
      });
    }
    const text = JSON.stringify(loaded.globals.get(name), (_key, value) => {
      if (typeof value === 'bigint') return `${value}`;
      return value instanceof Uint8Array ? Array.from(value) : value;
    });
    return `${name} = ${text}\n`;
  }

  #examine(text: string): string {
    const [, base, sign, offset, length = '64'] =
      /^(r\d+|0x[0-9a-f]+|\d+)\s*(?:([+-])\s*(\d+))?(?:\s+(\d+))?$/i.exec(text) ?? [];
    if (base === undefined)
      throw new TraplineError('EUSAGE', `x: ${text} is no address`, { hint: 'x r10-16 32' });
    const start = base.startsWith('r') ? this.#view.session.vm.regs[Number(base.slice(1))] : BigInt(base);
    if (start === undefined) throw new TraplineError('EUSAGE', `there is no register ${base}`);
    const at = Number(start) + (sign === '-' ? -1 : 1) * Number(offset ?? 0);
    const end = this.#view.loaded.machine.memory.buffer.byteLength;
    if (at < 0 || at >= end) throw new TraplineError('EFAULT', `there is no memory at 0x${at.toString(16)}`);
    return this.#view.memory(at, Math.min(Number(length), MAX_DUMP));
  }
}

/** A number of instructions, 1 without; `what` has to be told its number. */
function count(text: string, what?: string): number {
  if (text === '' && what === undefined) return 1;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new TraplineError(
    'EUSAGE',
    `${what ?? 'step'}: ${text === '' ? 'how far?' : `${text} is no number`}`,
  );
}
