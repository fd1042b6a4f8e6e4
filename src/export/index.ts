/** `trapline/export`: traces as files. */
export { eventFields, type FieldValue, fieldValue, type TraceEvent, TraceEvents } from './events.ts';
export { exportChrome } from './formats/chrome.ts';
export { exportJson } from './formats/json.ts';
export { exportPerfetto } from './formats/perfetto.ts';
export { type SliceItem, slices } from './formats/slices.ts';
export { exportSpeedscope } from './formats/speedscope.ts';
export { fileSpool } from './record/file-spool.ts';
export { type MetadataOptions, traceMetadata } from './record/metadata.ts';
export { memorySpool, type PageSpool, type RecorderOptions, TraceRecorder } from './record/recorder.ts';
export { eventFilter } from './report/filter.ts';
export { type ReportOptions, reportLines } from './report/report.ts';
export { eventText } from './report/text.ts';
export { bestCompression, COMPRESSIONS, type CompressionName } from './trace-dat/compression.ts';
export type { FileEvent, FileField } from './trace-dat/event-format.ts';
export type { TraceDatVersion } from './trace-dat/layout.ts';
export {
  readTraceDat,
  TraceDat,
  type TraceDatBuffer,
  type TraceDatCpu,
  type TraceDatOption,
} from './trace-dat/reader.ts';
export { FileSink, MemorySink } from './trace-dat/sinks.ts';
export { type DatSource, fileSource } from './trace-dat/source.ts';
export {
  type BufferPages,
  type CpuPages,
  type DatSink,
  type TraceDatOptions,
  type TraceMetadata,
  writeTraceDat,
} from './trace-dat/writer.ts';
