/** What every check of a type says and asks. */
import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';

const KSYM_NAME_LEN = 512;

function isNameChar(byte: number, first: boolean): boolean {
  const letter = (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
  const digit = byte >= 0x30 && byte <= 0x39;
  return letter || byte === 0x5f || byte === 0x2e || (digit && !first);
}

export class TypeChecker {
  protected readonly btf: Btf;

  constructor(btf: Btf) {
    this.btf = btf;
  }

  protected fail(id: number, message: string, errno: 'EINVAL' | 'ENOTSUPP' = 'EINVAL'): never {
    throw new BtfError(`${this.btf.label(id)}: ${message}`, { typeId: id, errno });
  }

  protected demand(ok: boolean, id: number, message: string): void {
    if (!ok) this.fail(id, message);
  }

  protected identifier(offset: number): boolean {
    const { bytes, at, length } = this.btf.stringBytes(offset);
    if (length === 0 || length >= KSYM_NAME_LEN || !isNameChar(bytes[at]!, true)) return false;
    for (let i = 1; i < length; i++) if (!isNameChar(bytes[at + i]!, false)) return false;
    return true;
  }

  /** A section's name: any printable text. */
  protected sectionName(offset: number): boolean {
    const { bytes, at, length } = this.btf.stringBytes(offset);
    if (length === 0 || length >= KSYM_NAME_LEN) return false;
    for (let i = 0; i < length; i++) if (bytes[at + i]! < 0x20 || bytes[at + i]! > 0x7e) return false;
    return true;
  }
}
