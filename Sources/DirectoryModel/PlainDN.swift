/// Names as nearly all are: one assertion for each relative name, and no character in a value that would have to be escaped.
enum PlainDN {
    /// Whether a text is such a name, written just as it would be written again.
    static func isPlain(_ text: String) -> Bool {
        guard !text.isEmpty else { return true }
        var text = text
        return text.withUTF8 { bytes in
            var place = 0
            while true {
                // The type: a letter first, so that no dotted number needs to be understood here.
                guard place < bytes.count, bytes[place].isASCIILetter else { return false }
                while place < bytes.count, bytes[place].isKeyCharacter { place += 1 }
                guard place < bytes.count, bytes[place] == UInt8(ascii: "=") else { return false }
                place += 1
                let start = place
                while place < bytes.count, bytes[place] != UInt8(ascii: ",") {
                    guard isPlain(bytes[place]) else { return false }
                    place += 1
                }
                if start < place {
                    guard bytes[start] != UInt8(ascii: " "), bytes[start] != UInt8(ascii: "#"),
                        bytes[place - 1] != UInt8(ascii: " ")
                    else { return false }
                }
                if place == bytes.count { return true }
                place += 1
            }
        }
    }

    /// Printable ASCII that means nothing anywhere in a value.
    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "+"), UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "<"),
            UInt8(ascii: ">"), UInt8(ascii: "="), UInt8(ascii: "\\"):
            false
        default: (0x20...0x7E).contains(byte)
        }
    }

    /// - Parameter text: one that is plain.
    static func rdns(of text: String) -> [RDN] {
        text.utf8.split(separator: UInt8(ascii: ",")).map { name in
            let type = name.prefix { $0 != UInt8(ascii: "=") }
            let value = AttributeValue(bytes: name.dropFirst(type.count + 1))
            return RDN(AttributeName(unchecked: String(Substring(type))), value)
        }
    }
}
