export { drawBuckets, histBuckets, histLowerBound, lhistBuckets } from './histogram.ts';
export { JsonPrinter } from './json.ts';
export { type MapPrintOptions, printedMap, type RawMapEntry } from './maps.ts';
export type {
  Bucket,
  MapEntry,
  MapValue,
  PrintedMap,
  Printer,
  Sinks,
  Value,
  WarningInfo,
} from './model.ts';
export { compilePrintf, parseFormat } from './printf.ts';
export { RecordDecoder, type RecordEvent } from './records.ts';
export { strftime } from './strftime.ts';
export { TextPrinter } from './text.ts';
export { type DecodeContext, formatValue, readValue } from './values.ts';
