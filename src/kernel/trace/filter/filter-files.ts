import { KernelError } from '../../errno.ts';
import { canEnable } from '../event-control-files.ts';
import { textFile } from '../file-operations.ts';
import type { FilesPart } from '../trace-files.ts';
import { applyEventFilter, applySystemFilter, showEventFilter, showSystemFilter } from './event-filter.ts';

const PAGE_SIZE = 4096;

function checkSize(bytes: number): void {
  if (bytes >= PAGE_SIZE) throw new KernelError('EINVAL', 'a filter is shorter than a page');
}

/** The `filter` files of events and subsystems (event_filter_fops, ftrace_subsystem_filter_fops). */
export const filterFiles: FilesPart = {
  event(file) {
    if (!canEnable(file.call)) return {};
    return {
      filter: textFile({
        mode: 0o640,
        show: () => showEventFilter(file),
        store: (text, bytes) => {
          checkSize(bytes);
          applyEventFilter(file, text);
          return bytes;
        },
      }),
    };
  },
  system(tr, system) {
    if (system === 'ftrace') return {};
    return {
      filter: textFile({
        mode: 0o640,
        show: () => showSystemFilter(tr, system),
        store: (text, bytes) => {
          checkSize(bytes);
          applySystemFilter(tr, system, text);
          return bytes;
        },
      }),
    };
  },
};
