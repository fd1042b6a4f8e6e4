import { BpfError, type BpfErrorOptions } from '../errors.ts';

/** Where in an object file something is wrong. */
export interface ElfPlace {
  /** Name of a section, or `#index` of one without a readable name. */
  readonly section?: string | undefined;
  readonly symbol?: string | undefined;
  /** Byte offset within the section, or within the file where no section is named. */
  readonly offset?: number | undefined;
}

/**
 * An object file that cannot be used. `code` is `ELF_…` for a broken or foreign file, `OBJ_…` for a well-formed one that asks for
 * something that cannot be had. The message names the file and the place.
 */
export class ObjectError extends BpfError {
  readonly place: ElfPlace;

  constructor(code: string, message: string, place: ElfPlace = {}, options: BpfErrorOptions = {}) {
    super(code, `${message}${placeText(place)}`, options);
    this.name = 'ObjectError';
    this.place = place;
  }
}

function placeText({ section, symbol, offset }: ElfPlace): string {
  const parts: string[] = [];
  if (section !== undefined) parts.push(`section ${section}`);
  if (symbol !== undefined) parts.push(`symbol ${symbol}`);
  if (offset !== undefined) parts.push(`offset 0x${offset.toString(16)}`);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}
