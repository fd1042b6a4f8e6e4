/**
 * The inspector of the own thread, without a port. A session on the same thread answers before `post` returns, so everything
 * here is synchronous. It is open only while somebody needs it: an enabled debugger costs memory and a stop of
 * about 0.35 ms per MB of heap.
 */
import { Session } from 'node:inspector';
import { types } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { KernelError } from '../../kernel/errno.ts';
import { editLeavesStaleCode, NEVER, nativePlace } from './stale-code.ts';
import type { ScriptInfo } from './types.ts';

export type EditStatus =
  | 'Ok'
  | 'CompileError'
  | 'BlockedByActiveGenerator'
  | 'BlockedByActiveFunction'
  | 'BlockedByTopLevelEsModuleChange';

export interface ScriptPosition {
  readonly scriptId: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

export class SelfInspector {
  readonly scripts = new Map<string, ScriptInfo>();
  #session: Session | undefined;

  get isOpen(): boolean {
    return this.#session !== undefined;
  }

  open(): void {
    if (this.#session !== undefined) return;
    const session = new Session();
    try {
      session.connect();
    } catch (error) {
      throw new KernelError('ENOTSUPP', 'this Node.js has no inspector', { cause: error });
    }
    this.#session = session;
    this.scripts.clear();
    session.on('Debugger.scriptParsed', ({ params }) => {
      this.scripts.set(params.scriptId, {
        scriptId: params.scriptId,
        url: params.url,
        isModule: params.isModule ?? false,
        length: params.length ?? 0,
        sourceMapURL: params.sourceMapURL ?? '',
        executionContextId: params.executionContextId,
        hash: params.hash,
      });
    });
    this.#post('Debugger.enable');
  }

  close(): void {
    const session = this.#session;
    this.#session = undefined;
    this.scripts.clear();
    session?.disconnect();
  }

  /** The text as V8 runs it. ENOENT: the script is gone. */
  source(scriptId: string): string {
    const { scriptSource } = this.#post<{ scriptSource: string }>('Debugger.getScriptSource', { scriptId });
    return scriptSource;
  }

  /** Live edit. CompileError carries V8's message. */
  setSource(scriptId: string, scriptSource: string): { status: EditStatus; message?: string } {
    const answer = this.#editable(() =>
      this.#post<{ status?: EditStatus; exceptionDetails?: { text: string } }>('Debugger.setScriptSource', {
        scriptId,
        scriptSource,
      }),
    );
    const status = answer.status ?? (answer.exceptionDetails === undefined ? 'Ok' : 'CompileError');
    if (status === 'Ok' && editLeavesStaleCode(process.versions.v8)) this.#dropCode();
    return answer.exceptionDetails === undefined
      ? { status }
      : { status, message: answer.exceptionDetails.text };
  }

  /** The first place at or behind `start`, and before `end`, where the function that holds it can stop. */
  breakLocation(start: ScriptPosition, end: ScriptPosition | undefined): ScriptPosition | undefined {
    const { locations } = this.#post<{ locations: ScriptPosition[] }>('Debugger.getPossibleBreakpoints', {
      start,
      ...(end === undefined ? {} : { end }),
      restrictToFunction: true,
    });
    return locations[0];
  }

  /** A breakpoint that never stops: its condition is evaluated and has to be false. */
  setBreakpoint(location: ScriptPosition, condition: string): string {
    return this.#post<{ breakpointId: string }>('Debugger.setBreakpoint', { location, condition })
      .breakpointId;
  }

  removeBreakpoint(breakpointId: string): void {
    this.#post('Debugger.removeBreakpoint', { breakpointId });
  }

  /** Throws all optimized code away: stale-code.ts. */
  #dropCode(): void {
    const place = nativePlace(types.isProxy);
    if (place !== undefined) {
      const { expression } = place;
      const { result } = this.#post<{ result: { objectId?: string } }>('Runtime.evaluate', { expression });
      const params = { objectId: result.objectId, condition: NEVER };
      const { breakpointId } = this.#post<{ breakpointId: string }>(
        'Debugger.setBreakpointOnFunctionCall',
        params,
      );
      this.removeBreakpoint(breakpointId);
      return;
    }
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
    this.#post('Profiler.disable');
  }

  /** Node 26 and later edit live only after a flag is set. */
  #editable<T>(edit: () => T): T {
    try {
      return edit();
    } catch (error) {
      if (Number(process.versions.node.split('.')[0]) < 26) throw error;
      setFlagsFromString('--inspector-live-edit');
      return edit();
    }
  }

  #post<T>(method: string, params: object = {}): T {
    const session = this.#session;
    if (session === undefined) throw new KernelError('ENODEV', 'the inspector is closed');
    let failure: Error | null | undefined;
    let answer: T | undefined;
    (session.post as (m: string, p: object, cb: (e: Error | null, v?: object) => void) => void).call(
      session,
      method,
      params,
      (error, value) => {
        failure = error;
        answer = value as T;
      },
    );
    if (failure) {
      const { message } = failure as { message?: string };
      const gone = /no script|not found|no such script/i.test(message ?? '');
      throw new KernelError(gone ? 'ENOENT' : 'EIO', `${method}: ${message}`, { cause: failure });
    }
    if (answer === undefined) throw new KernelError('EIO', `${method} did not answer`);
    return answer;
  }
}
