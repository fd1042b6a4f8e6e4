/** What the programs of a trace have written: printed in its order, with the requests (`print(@)`, `clear(@)`, `system()`) answered. */
import type { SeveralProcesses } from '../lang/index.ts';
import { type Printer, printedMap, type RawMapEntry, type RecordEvent } from '../output/index.ts';
import { runShell } from './system.ts';
import type { Tracee } from './tracee.ts';
import type { Tracees } from './tracees.ts';

/** Commands of system() that wait at most; more are lost events. */
const MAX_COMMANDS = 256;

export interface RecordsOptions {
  readonly printer: Printer;
  readonly tracees: Tracees;
  /** Nothing is printed or asked for any more, and commands of system() are ended. */
  readonly left: AbortSignal;
  /** exit() was called. */
  exit(code: number): void;
  warning(text: string): void;
}

export class Records {
  readonly #options: RecordsOptions;
  readonly #printer: Printer;
  readonly #tracees: Tracees;
  /** Events that came while a request (print of a map, clear, frames of a stack) was being answered. */
  readonly #waiting: [Tracee, PrintEvent | RequestEvent | HeldRecord][] = [];
  #busy: Promise<void> | undefined;
  /** Commands of system() that wait. */
  #commands = 0;
  lost = 0;
  /** Of BEGIN and END, which run in every process, one is shown. */
  firstOnly = false;
  /** exit() has no meaning any more. */
  ending = false;
  /** Events are dropped between exit() and END. */
  deaf = false;
  /** Which maps can be added over processes. */
  several: SeveralProcesses | undefined;

  constructor(options: RecordsOptions) {
    this.#options = options;
    this.#printer = options.printer;
    this.#tracees = options.tracees;
  }

  lose(count: number): void {
    this.lost += count;
    this.#printer.lostEvents(count);
  }

  receive(tracee: Tracee, record: DataView): void {
    if (this.deaf || (this.firstOnly && tracee !== this.#tracees.alive[0])) return;
    if (tracee.lacksFrames(record)) {
      // the record's bytes are the ring's
      const bytes = new Uint8Array(record.buffer, record.byteOffset, record.byteLength).slice();
      this.#wait(tracee, { kind: 'held', record: new DataView(bytes.buffer) });
      return;
    }
    const event = tracee.decode(record);
    if (event.kind === 'exit') {
      if (this.ending) return;
      this.deaf = true;
      this.#options.exit(event.code & 0xff);
    } else if (event.kind === 'system' && this.#commands >= MAX_COMMANDS) this.lose(1);
    else if (this.#busy === undefined && !isRequest(event)) this.#print(tracee, event);
    else {
      if (event.kind === 'system') this.#commands++;
      this.#wait(tracee, event);
    }
  }

  /** Everything that programs have written so far is printed when this resolves. */
  async settle(): Promise<void> {
    for (const { session } of this.#tracees.alive) await session.flush().catch((error) => this.warn(error));
    while (this.#busy !== undefined) await this.#busy;
  }

  /** A map of all processes: each process is more CPUs. */
  async printMap(index: number, top: number, div: number): Promise<void> {
    const { all } = this.#tracees;
    const map = all[0]?.script.maps[index];
    if (map === undefined) return;
    const entries: RawMapEntry[] = [];
    for (const tracee of all) entries.push(...(await tracee.readMap(index, this.#tracees.isGone(tracee))));
    const additive = map.name !== undefined && this.several?.additive.has(map.name) === true;
    this.#printer.map(printedMap(map, entries, { top, div, additive }));
  }

  /** Something of the script's: with its position. */
  warnAt({ script }: Tracee, index: number, message: string): void {
    const { line = 1, column = 1 } = script.positions[index] ?? {};
    this.#printer.warning({ message, file: script.file, line, column });
  }

  /** What went wrong with a process, unless nobody wants to know. */
  warn(error: unknown): void {
    if (this.#options.left.aborted) return;
    this.#options.warning(error instanceof Error ? error.message : String(error));
  }

  #wait(tracee: Tracee, event: PrintEvent | RequestEvent | HeldRecord): void {
    this.#waiting.push([tracee, event]);
    this.#busy ??= this.#work();
  }

  /** Requests take a round trip; what comes meanwhile keeps its place behind them. */
  async #work(): Promise<void> {
    const { left } = this.#options;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const [tracee, waiting] = next;
      const event = waiting.kind === 'held' ? await this.#complete(tracee, waiting.record) : waiting;
      // who leaves at once wants nothing more, and asks for nothing more
      if (left.aborted) continue;
      if (isRequest(event)) await this.#answer(event).catch((error) => this.warn(error));
      else this.#print(tracee, event);
    }
    this.#busy = undefined;
  }

  /** A record whose stacks are numbers yet, with their frames, or without them where the process has gone. */
  async #complete(tracee: Tracee, record: DataView): Promise<PrintEvent | RequestEvent> {
    const { left } = this.#options;
    if (tracee.lacksFrames(record) && !left.aborted) await tracee.session.flush().catch(() => {});
    const event = tracee.decode(record);
    if (event.kind === 'system') this.#commands++;
    return event as PrintEvent | RequestEvent;
  }

  async #answer(event: RequestEvent): Promise<void> {
    if (event.kind === 'system') {
      this.#commands--;
      this.#printer.syscall(await runShell(event.text, this.#options.left));
      return;
    }
    if (event.kind === 'print_map') return await this.printMap(event.map, event.top, event.div);
    for (const { session } of this.#tracees.alive) {
      await (event.kind === 'clear' ? session.clearMap(event.map) : session.zeroMap(event.map));
    }
  }

  #print(tracee: Tracee, event: PrintEvent): void {
    switch (event.kind) {
      case 'printf':
        this.#printer.printf(event.text);
        break;
      case 'time':
        this.#printer.time(event.text);
        break;
      case 'value':
        this.#printer.value(event.value);
        break;
      case 'error':
        this.warnAt(tracee, event.position, event.message);
        break;
      case 'unknown':
        this.#options.warning(`a record has the unknown action ${event.action}`);
        break;
    }
  }
}

/** A record that cannot be shown before frames of stacks have been fetched: none of `exit`. */
interface HeldRecord {
  readonly kind: 'held';
  readonly record: DataView;
}

type PrintEvent = Exclude<RecordEvent, { kind: 'exit' | RequestEvent['kind'] }>;
type RequestEvent = Extract<RecordEvent, { kind: (typeof REQUESTS)[number] }>;

/** What the tracer has to do something for. */
const REQUESTS = ['print_map', 'clear', 'zero', 'system'] as const;

function isRequest(event: RecordEvent): event is RequestEvent {
  return (REQUESTS as readonly string[]).includes(event.kind);
}
