import { TRACE_FN } from '../builtin-events.ts';
import type { TraceArray } from '../trace-array.ts';
import { recordToBuffer } from '../trace-commit.ts';
import { dataView, writeEntry } from '../trace-entry.ts';
import type { Tracer } from '../tracer.ts';
import { FunctionUse } from './function-use.ts';

const RECORD_SIZE = 24;

/** `function`: a record for each call (kernel/trace/trace_functions.c). Who called is not known: the record's parent is 0. */
export function functionTracer(): Tracer {
  const uses = new Map<TraceArray, FunctionUse>();
  return {
    name: 'function',
    allowInstances: true,
    init(tr) {
      const hit: ConstructorParameters<typeof FunctionUse>[1]['hit'] = ({ address, cpu, ts, pid }) => {
        const data = new Uint8Array(RECORD_SIZE);
        writeEntry(data, TRACE_FN, pid);
        dataView(data).setBigUint64(8, address, true);
        recordToBuffer(tr, { cpu, ts, data });
      };
      uses.set(tr, new FunctionUse(tr, { returns: false, hit }));
    },
    reset(tr) {
      uses.get(tr)?.stop();
      uses.delete(tr);
    },
  };
}
