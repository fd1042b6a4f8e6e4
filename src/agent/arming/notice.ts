/** What the main thread tells the worker of its hooks. */

export interface HookNotice {
  readonly site: number;
  /**
   * Of a binding: replaced; to be replaced by the worker; not reached. Of its window: no call of so many has escaped; some have; too
   * many have passed (`crowded`); it may be opened. `drop`: the breakpoint is too dear for what waits. `limit`: of breakpoint probes.
   */
  readonly state:
    | 'bound'
    | 'const'
    | 'missed'
    | 'settled'
    | 'escaping'
    | 'crowded'
    | 'window'
    | 'drop'
    | 'limit';
}
