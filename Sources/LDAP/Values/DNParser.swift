import EventLoop

/// Reads the string form of names: the grammar of RFC 4514, section 3, and spaces around the separators, which
/// RFC 2253 allowed, servers accept and people write. Quoted values and `;` as separator (RFC 1779) are refused.
struct DNParser {
    private let text: String
    private let bytes: [UInt8]
    private var place = 0

    init(_ text: String) {
        self.text = text
        bytes = Array(text.utf8)
    }

    mutating func distinguishedName() throws(LDAPSyntaxError) -> [RDN] {
        guard !bytes.isEmpty else { return [] }
        var names = [try relativeName()]
        while next == UInt8(ascii: ",") {
            place += 1
            names.append(try relativeName())
        }
        return names
    }

    mutating func onlyRelativeName() throws(LDAPSyntaxError) -> RDN {
        let name = try relativeName()
        guard next == nil else {
            throw error(
                "there is more than one relative name", hint: "write one, and a comma within a value as \"\\,\"")
        }
        return name
    }

    private var next: UInt8? { place < bytes.count ? bytes[place] : nil }

    private mutating func relativeName() throws(LDAPSyntaxError) -> RDN {
        let first = try assertion()
        var others: [RDN.Assertion] = []
        while next == UInt8(ascii: "+") {
            place += 1
            others.append(try assertion())
        }
        return RDN(first, others)
    }

    private mutating func assertion() throws(LDAPSyntaxError) -> RDN.Assertion {
        skipSpaces()
        let name = try attributeType()
        skipSpaces()
        guard next == UInt8(ascii: "=") else {
            throw error(
                "\"=\" is missing after \(name)", hint: "write name=value, and a comma within a value as \"\\,\"")
        }
        place += 1
        skipSpaces()
        if next == UInt8(ascii: "#") { return RDN.Assertion(name, try encodedValue(), isEncoded: true) }
        return RDN.Assertion(name, try value())
    }

    private mutating func attributeType() throws(LDAPSyntaxError) -> AttributeName {
        let start = place
        while let byte = next, byte.isKeyCharacter || byte == UInt8(ascii: ".") { place += 1 }
        let spelling = String(decoding: bytes[start..<place], as: UTF8.self)
        guard !spelling.isEmpty else {
            throw error(
                next == nil ? "the name ends where an attribute type must follow" : "there is no attribute type here",
                hint: "write name=value, and a comma within a value as \"\\,\"")
        }
        guard let name = AttributeName(parsing: spelling) else {
            place = start
            throw error("\(spelling.quotedForMessage) is not an attribute type", hint: AttributeName.hint)
        }
        return name
    }

    /// `#` and pairs of hexadecimal digits: the BER encoding of the value.
    private mutating func encodedValue() throws(LDAPSyntaxError) -> AttributeValue {
        place += 1
        var output: [UInt8] = []
        while let byte = next, byte.hexDigitValue != nil { output.append(try hexPair()) }
        skipSpaces()
        guard !output.isEmpty, next == nil || next == UInt8(ascii: ",") || next == UInt8(ascii: "+") else {
            throw error(
                "after \"#\" there must be pairs of hexadecimal digits",
                hint: "write a \"#\" that begins a value as \"\\#\"")
        }
        return AttributeValue(bytes: output)
    }

    private mutating func value() throws(LDAPSyntaxError) -> AttributeValue {
        var output: [UInt8] = []
        var significant = 0  // unescaped spaces after it do not belong to the value
        scan: while let byte = next {
            switch byte {
            case UInt8(ascii: ","), UInt8(ascii: "+"):
                break scan
            case UInt8(ascii: "\\"):
                output.append(try escape())
                significant = output.count
                continue
            case UInt8(ascii: ";"), UInt8(ascii: "\""), UInt8(ascii: "<"), UInt8(ascii: ">"):
                let character = Character(UnicodeScalar(byte))
                throw error(
                    "\(String(reflecting: String(character))) is not allowed in a value",
                    hint: "write it as \(String(reflecting: byte.escapePair)), and separate names with commas")
            case 0:
                throw error("a NUL character is not allowed in a value", hint: "write it as \"\\00\"")
            default:
                output.append(byte)
                if byte != UInt8(ascii: " ") { significant = output.count }
            }
            place += 1
        }
        return AttributeValue(bytes: output.prefix(significant))
    }

    private mutating func escape() throws(LDAPSyntaxError) -> UInt8 {
        let start = place
        place += 1
        switch next {
        case UInt8(ascii: "\""), UInt8(ascii: "+"), UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "<"),
            UInt8(ascii: ">"), UInt8(ascii: "\\"), UInt8(ascii: " "), UInt8(ascii: "#"), UInt8(ascii: "="):
            defer { place += 1 }
            return bytes[place]
        case let byte? where byte.hexDigitValue != nil:
            return try hexPair()
        default:
            place = start
            throw error(
                "after a backslash there must be two hexadecimal digits or a special character",
                hint: "write a backslash as \"\\5c\"")
        }
    }

    private mutating func hexPair() throws(LDAPSyntaxError) -> UInt8 {
        guard place + 1 < bytes.count, let high = bytes[place].hexDigitValue, let low = bytes[place + 1].hexDigitValue
        else {
            throw error("a single hexadecimal digit", hint: "write each byte with two, a backslash as \"\\5c\"")
        }
        place += 2
        return high << 4 | low
    }

    private mutating func skipSpaces() {
        while next == UInt8(ascii: " ") { place += 1 }
    }

    private func error(_ reason: String, hint: String) -> LDAPSyntaxError {
        let position = String(decoding: bytes[..<place], as: UTF8.self).unicodeScalars.count + 1
        return LDAPSyntaxError(
            place: "DN \(text.quotedForMessage), character \(position)", position: position, reason: reason, hint: hint)
    }
}

extension UInt8 {
    /// `\HH`.
    fileprivate var escapePair: String {
        var output: [UInt8] = []
        output.appendEscape(self)
        return String(decoding: output, as: UTF8.self)
    }
}

/// Why a text is not a distinguished name, a record of LDIF, or the address of a server.
public struct LDAPSyntaxError: Error, Hashable, CustomStringConvertible {
    /// The text and the character, or the file and the line.
    public let place: String
    /// From 1: of a name the first Unicode scalar that does not fit; of LDIF the line, and of a folded line its first; of an address always 1.
    public let position: Int
    /// The error.
    public let reason: String
    /// The hint.
    public let hint: String

    /// `DN "text", character 7: reason; hint`, `file.ldif:3: reason; hint`
    public var description: String { "\(place): \(reason); \(hint)" }
}

extension String {
    /// The text for messages: in quotes, control characters escaped, long text cut.
    var quotedForMessage: String {
        let limit = 200
        let start = String(prefix(limit))
        return String(reflecting: start) + (start.utf8.count < utf8.count ? "…" : "")
    }
}
