/** The library: `import { trace } from 'trapline'`. */
export {
  disableKprobe,
  disableKretprobe,
  enableKprobe,
  enableKretprobe,
  registerKprobe,
  registerKprobes,
  registerKretprobe,
  registerKretprobes,
  SelfArch,
  selfKprobes,
  unregisterKprobe,
  unregisterKprobes,
  unregisterKretprobe,
  unregisterKretprobes,
} from './arch/v8/self.ts';
export type { ArmReport, ArmWay, FunctionSymbol } from './arch/v8/types.ts';
export { attachTracefs, type OwnTracefs, openOwnTracefs, ProcessTracefs } from './cli/attach-tracefs.ts';
export {
  type Target,
  type TraceObserver,
  type TraceOptions,
  type TraceResult,
  type Tracing,
  trace,
} from './cli/run.ts';
export { formatDiagnostic, type Position, TraplineError } from './errors.ts';
export * from './kernel/kprobes/index.ts';
export { getRawEvent, type RawEventMap, rawEventMaps } from './kernel/tracepoint/raw-event.ts';
export {
  type DefineTracepointOptions,
  defineTracepoint,
  type TracepointArgs,
  type TracepointFields,
  type TracepointFunction,
  undefineTracepoint,
} from './kernel/tracepoint/trace-event.ts';
export {
  TRACEPOINT_DEFAULT_PRIO,
  Tracepoint,
  tracepointProbeRegister,
  tracepointProbeRegisterPrio,
  tracepointProbeUnregister,
} from './kernel/tracepoint/tracepoint.ts';
export { type CompiledScript, compileScript } from './lang/index.ts';
export {
  JsonPrinter,
  type MapEntry,
  type MapValue,
  type PrintedMap,
  type Printer,
  type Sinks,
  TextPrinter,
  type Value,
} from './output/index.ts';
export { attach } from './target/attach.ts';
export {
  channelTracepoint,
  defineChannelEvent,
  tracingChannelTracepoints,
} from './target/diagnostics-channels.ts';
export {
  AttachedObject,
  type AttachedProgram,
  type AttachObjectOptions,
  attachObject,
} from './target/object/attach-object.ts';
export type { ProcessMap } from './target/object/maps.ts';
export {
  openProcessTracing,
  type ProcessTracing,
  type ProcessTracingOptions,
} from './target/process-tracing.ts';
export { defineRuntimeEvents } from './target/runtime-events.ts';
export { selfSession } from './target/self.ts';
export type {
  ArmOptions,
  AttachedSite,
  AttachRequest,
  DetachReport,
  LoadSpec,
  NotRestored,
  ProcessInfo,
  SessionEvents,
  TraceSession,
} from './target/session.ts';
