/** Which files of a tracing folder speak of the process's functions: listing those is dear, so it waits until somebody asks. */

/** What lists them. */
const LISTS = /(?:^|\/)available_filter_functions(?:_addrs)?$/;
/** What names them when it is written. */
const NAMES =
  /(?:^|\/)(?:kprobe_events|set_ftrace_filter|set_ftrace_notrace|set_graph_function|set_graph_notrace|function_profile_enabled)$/;
/** Where stacks are asked for, whose frames are functions. */
const STACKS = /(?:^|\/)(?:trigger|trace_options|options\/\w+)$/;

/** Whether reading a file (without `text`), or writing a text to it, needs to know the functions. */
export function needsFunctions(path: string, text: string | undefined): boolean {
  if (LISTS.test(path)) return true;
  if (text === undefined) return false;
  if (NAMES.test(path)) return text.trim() !== '';
  // p, r and f are on functions; t, e, s and deletions are not
  if (/(?:^|\/)dynamic_events$/.test(path)) return /(?:^|\n)\s*[prf]/.test(text);
  if (/(?:^|\/)current_tracer$/.test(path)) return !['', 'nop'].includes(text.trim());
  return STACKS.test(path) && (/stack/.test(text) || /options\/.*stack/.test(path));
}
