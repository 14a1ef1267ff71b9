public import EventLoop

/// An attribute with its values, in the order in which they came.
public struct Attribute: Hashable, Sendable {
    /// The attribute's name, with its options.
    public var name: AttributeName
    /// The values; none when only names were asked for.
    public var values: [AttributeValue]

    /// An attribute of any number of values.
    public init(_ name: AttributeName, _ values: [AttributeValue]) {
        self.name = name
        self.values = values
    }
}

/// An LDAP entry as it was read, or as it is to be added.
public struct Entry: Hashable, Sendable {
    /// The name of the entry.
    public var dn: DN
    /// The attributes, each name once.
    public var attributes: [Attribute]

    /// An entry with these attributes, each name once.
    public init(dn: DN, attributes: [Attribute] = []) {
        self.dn = dn
        self.attributes = attributes
    }

    /// All values of an attribute; empty when the entry does not have it. Setting none removes the attribute.
    public subscript(name: AttributeName) -> [AttributeValue] {
        get {
            for place in attributes.indices where attributes[place].name == name { return attributes[place].values }
            return []
        }
        set {
            let place = attributes.firstIndex { $0.name == name }
            switch (place, newValue.isEmpty) {
            case (let place?, true): attributes.remove(at: place)
            case (let place?, false): attributes[place].values = newValue
            case (nil, true): break
            case (nil, false): attributes.append(Attribute(name, newValue))
            }
        }
    }

    /// The first value of an attribute as text; nil when there is none or it is not text.
    public func text(_ name: AttributeName) -> String? { self[name].first?.text }
}

/// An attribute description (RFC 4512, section 2.5), compared without regard to the case of letters and to the order
/// of options.
public struct AttributeName: Hashable, Sendable, CustomStringConvertible {
    /// The name as it was written.
    public let spelling: String
    /// A hash of the type in lower case: names are compared far more often than they are made.
    private let code: UInt32

    /// - Parameter spelling: a descriptor such as `cn`, or a dotted OID, with or without options (`;binary`).
    /// - Returns: nil when it is neither.
    public init?(parsing spelling: String) {
        guard Self.isWellFormed(spelling) else { return nil }
        self.init(unchecked: spelling)
    }

    /// For names that come from the server or from the schema and are well formed by that.
    public init(unchecked spelling: String) {
        self.spelling = spelling
        // FNV-1a.
        var code: UInt32 = 2_166_136_261
        let bytes = spelling.utf8.span
        for place in bytes.indices {
            if bytes[place] == UInt8(ascii: ";") { break }
            code = (code ^ UInt32(bytes[place].foldedASCII)) &* 16_777_619
        }
        self.code = code
    }

    /// The same for all spellings of a name: lower case, and the options in order.
    var folded: String {
        let lower = spelling.lowercased()
        guard hasOptions else { return lower }
        let parts = lower.split(separator: ";")
        return parts.count > 2 ? ([parts[0]] + parts[1...].sorted()).joined(separator: ";") : lower
    }

    /// The name as it was written.
    public var description: String { spelling }

    /// Whether something follows the type (`;binary`, `;lang-de`).
    public var hasOptions: Bool { spelling.utf8.contains(UInt8(ascii: ";")) }

    /// Whether both name the same attribute; see the type's comment.
    public static func == (left: Self, right: Self) -> Bool {
        left.code == right.code && (left.spelling == right.spelling || left.folded == right.folded)
    }

    /// Hashes the type, without regard to case and options.
    public func hash(into hasher: inout Hasher) { hasher.combine(code) }

    /// How to correct a text that is not an attribute description.
    static let hint = "write letters, digits and hyphens, beginning with a letter, or a dotted number"

    static func isWellFormed(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        guard let type = parts.first, let first = type.first else { return false }
        let typeIsRight =
            first.isASCIIDigit ? isOID(type) : first.isASCIILetter && type.allSatisfy(\.isKeyCharacter)
        return typeIsRight && parts.dropFirst().allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isKeyCharacter) }
    }

    private static func isOID(_ text: Substring.UTF8View) -> Bool {
        text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
            .allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isASCIIDigit) }
    }
}

extension AttributeName: ExpressibleByStringLiteral {
    /// A name in the source, which must be well formed.
    public init(stringLiteral value: String) { self.init(unchecked: value) }
}

extension UInt8 {
    var isASCIIDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
    /// The lower-case letter for an upper-case one.
    var foldedASCII: UInt8 { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) ? self | 0x20 : self }
    var isASCIILetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }
    /// A `keychar` of RFC 4512, section 1.4.
    var isKeyCharacter: Bool { isASCIILetter || isASCIIDigit || self == UInt8(ascii: "-") }
}

/// One value of an attribute: bytes, converted to text on request.
public struct AttributeValue: Hashable, Sendable {
    /// The value as the server has it.
    public let bytes: [UInt8]

    /// A value of any bytes.
    public init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
    /// A value of text, as UTF-8.
    public init(_ text: String) { bytes = Array(text.utf8) }

    /// The value as text, or nil when it is not valid UTF-8.
    public var text: String? { String(utf8: bytes.span) }

    /// The form that `caseIgnoreMatch` (RFC 4517, section 4.2.11) compares: the text in lower case, without leading and trailing spaces, and with one space
    /// for several. nil when it is not text. Characters that are only compatible (NFKC), such as full-width letters, stay different.
    public var folded: String? { text?.caseIgnoreFolded }
}

extension String {
    /// - Returns: nil for bytes that are not valid UTF-8.
    init?(utf8 bytes: Span<UInt8>) {
        // `String(validating:as:)` is not specialized; it took 4 % of the daemon's instructions for a `modify` (callgrind).
        do { self.init(copying: try UTF8Span(validating: bytes)) } catch { return nil }
    }

    /// See ``AttributeValue/folded``.
    public var caseIgnoreFolded: String { lowercased().spaceFolded }

    /// Without leading and trailing spaces, and with one space for several.
    public var spaceFolded: String {
        // Nearly all texts are that already.
        isSpaceFolded ? self : split(separator: " ").joined(separator: " ")
    }

    private var isSpaceFolded: Bool {
        var isAfterSpace = true
        for byte in utf8 {
            let isSpace = byte == UInt8(ascii: " ")
            if isSpace && isAfterSpace { return false }
            isAfterSpace = isSpace
        }
        return !isAfterSpace
    }
}

extension AttributeValue: ExpressibleByStringLiteral {
    /// A value of text, as UTF-8.
    public init(stringLiteral value: String) { self.init(value) }
}

extension AttributeValue: CustomStringConvertible {
    /// For messages: the text with control characters escaped, or the number of bytes.
    public var description: String {
        // Nearly all values; the general case costs fifty times as much.
        if bytes.allSatisfy({ 0x20..<0x7F ~= $0 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            return String(decoding: bytes, as: UTF8.self)
        }
        return text.map { String(String(reflecting: $0).dropFirst().dropLast()) }
            ?? "(\(bytes.count) bytes that are not text)"
    }
}

/// One change of one attribute within a modify (RFC 4511, section 4.6; increment: RFC 4525).
public struct Modification: Hashable, Sendable {
    /// The action on the values, by its word in LDIF.
    public enum Action: String, Hashable, Sendable {
        /// Adds the values to those that are there.
        case add
        /// Deletes the values, which must be there.
        case delete
        /// Puts the values in the place of all that are there.
        case replace
        /// Adds the one value, a number, to each value that is there (RFC 4525).
        case increment
    }

    /// The action on the values.
    public var action: Action
    /// The attribute that is changed.
    public var attribute: AttributeName
    /// The values it is done with; for `delete` and `replace`, none means the whole attribute.
    public var values: [AttributeValue]

    /// A change of one attribute.
    public init(_ action: Action, _ attribute: AttributeName, _ values: [AttributeValue]) {
        self.action = action
        self.attribute = attribute
        self.values = values
    }

    /// Adds values.
    public static func add(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.add, attribute, values)
    }

    /// Deletes values, or, without any, the whole attribute; either must be there.
    public static func delete(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.delete, attribute, values)
    }

    /// Replaces all values by these; without any, the attribute is removed, and it need not be there.
    public static func replace(_ attribute: AttributeName, _ values: AttributeValue...) -> Self {
        Self(.replace, attribute, values)
    }
}

/// The name of an entry that no rename changes (RFC 4530).
public typealias EntryUUID = UUID128

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
