extension UInt8 {
    /// The number that a hexadecimal digit of ASCII stands for.
    var hexDigitValue: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// The ASCII digit of the low four bits, in lower case.
    var hexDigit: UInt8 {
        let value = self & 0x0F
        return value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}

extension [UInt8] {
    /// Two lower-case digits for each byte.
    var hex: String { String(decoding: flatMap { [($0 >> 4).hexDigit, $0.hexDigit] }, as: UTF8.self) }

    /// Appends `\HH`, the escape that DNs and filters share.
    mutating func appendEscape(_ byte: UInt8) {
        append(UInt8(ascii: "\\"))
        append((byte >> 4).hexDigit)
        append(byte.hexDigit)
    }
}
