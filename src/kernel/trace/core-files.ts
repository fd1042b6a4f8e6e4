import { controlFiles, microsecondsFile } from './control-files.ts';
import { availableEvents, eventFiles, systemFiles } from './event-control-files.ts';
import { textFile } from './file-operations.ts';
import { topFunctionFiles } from './function/function-files.ts';
import { functionProfileFiles } from './function/function-profile.ts';
import { numberFromUser } from './kstrto.ts';
import { README } from './readme.ts';
import type { TraceArray } from './trace-array.ts';
import type { Files, FilesPart } from './trace-files.ts';
import type { Tracing } from './tracing.ts';

const SUBBUF_FIELDS =
  '\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n' +
  '\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n' +
  '\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n';
const HEADER_EVENT =
  '# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n' +
  '\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\tdata max type_len  == 28\n';

/** Text as C strings show it. */
function escaped(text: string): string {
  const named: Record<string, string> = { '\n': '\\n', '\t': '\\t', '\\': '\\', '"': '\\"' };
  return text.replace(/[\n\t\\"]/g, (c) => named[c]!);
}

/** Files of the tracing folder alone (tracer_init_tracefs_work_func()). */
function topFiles(tracing: Tracing): Files {
  const { savedCmdlines, globalTrace } = tracing;
  return {
    ...topFunctionFiles(tracing),
    ...(tracing.arch.traceFunctions === undefined ? {} : functionProfileFiles(tracing)),
    README: textFile({ mode: 0o440, show: () => README }),
    available_events: textFile({ mode: 0o440, show: () => availableEvents(globalTrace) }),
    saved_cmdlines: textFile({ mode: 0o440, show: () => savedCmdlines.showCmdlines() }),
    saved_cmdlines_size: textFile({
      mode: 0o640,
      show: () => `${savedCmdlines.size}\n`,
      store(text) {
        const size = numberFromUser(text);
        savedCmdlines.resize(size > 1n << 32n ? 2 ** 32 : Number(size));
        return undefined;
      },
    }),
    saved_tgids: textFile({ mode: 0o440, show: () => savedCmdlines.showTgids() }),
    printk_formats: textFile({
      mode: 0o440,
      show: () =>
        [...tracing.printkAddresses]
          .map(([format, address]) => `0x${address.toString(16)} : "${escaped(format)}"\n`)
          .join(''),
    }),
    tracing_thresh: microsecondsFile(
      () => tracing.tracingThresh,
      (ns) => {
        tracing.tracingThresh = ns;
      },
    ),
  };
}

/** The shapes of the buffer's pages and events: in every instance, which may have pages of its own size. */
function headerFiles(tr: TraceArray): Files {
  return {
    'events/header_page': textFile({
      mode: 0o440,
      show: () =>
        `${SUBBUF_FIELDS}\tfield: char data;\toffset:16;\tsize:${(tr.buffer.subbufSizeKb << 10) - 16};\tsigned:0;\n`,
    }),
    'events/header_event': textFile({ mode: 0o440, show: () => HEADER_EVENT }),
  };
}

/** What the core has of files: kernel/trace/trace.c and trace_events.c. */
export const coreFiles: FilesPart = {
  top: topFiles,
  instance: (tr) => ({ ...controlFiles(tr), ...headerFiles(tr) }),
  system: systemFiles,
  event: eventFiles,
};
