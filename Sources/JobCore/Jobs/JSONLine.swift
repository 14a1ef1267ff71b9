import FoundationEssentials

/// Writes values as JSON on one line (RFC 8259), straight into bytes and in the order in which they are encoded.
///
/// FoundationEssentials builds a tree of objects first, which takes at least twice as long: 0.22 ms for each `modify`, of 1.5 ms in all, since the
/// history writes a job two or three times. Reading is left to FoundationEssentials.
///
/// An `encode(to:)` may ask its encoder for one container only, which it leaves for good once it has written to the parent again.
package enum JSONLine {
    /// - Throws: `EncodingError` for NaN and infinity, which JSON does not have, and what the value throws.
    package static func encode(_ value: some Encodable) throws -> [UInt8] {
        var text = JSONText()
        try withUnsafeMutablePointer(to: &text) { try $0.write(value) }
        return text.bytes
    }
}

/// The line so far, and the objects and arrays that are open in it.
private struct JSONText {
    private(set) var bytes: [UInt8] = []
    /// What closes each, the innermost last.
    private var open: [UInt8] = []
    /// Whether the innermost has no member yet.
    private var isEmpty = true

    init() { bytes.reserveCapacity(1_024) }

    /// The number of open objects and arrays: by it a container finds itself again.
    var level: Int { open.count }

    mutating func begin(_ opening: UInt8, _ closing: UInt8) -> Int {
        bytes.append(opening)
        open.append(closing)
        isEmpty = true
        return open.count
    }

    mutating func close(to level: Int) {
        while open.count > level, let closing = open.popLast() {
            bytes.append(closing)
            isEmpty = false
        }
    }

    /// Closes what is open inside a container; a member follows there.
    mutating func member(of level: Int) {
        close(to: level)
        precondition(open.count == level, "a container is written to after its parent has gone on")
        if !isEmpty { bytes.append(UInt8(ascii: ",")) }
        isEmpty = false
    }

    mutating func member(_ key: String, of level: Int) {
        member(of: level)
        write(key)
        bytes.append(UInt8(ascii: ":"))
    }

    mutating func write(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        if Self.isPlain(text.utf8.span) { write(word: text) } else { writeEscaped(text) }
        bytes.append(UInt8(ascii: "\""))
    }

    private static func isPlain(_ text: Span<UInt8>) -> Bool {
        text.withUnsafeBufferPointer {
            $0.allSatisfy { $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
        }
    }

    private mutating func writeEscaped(_ text: String) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            case 0x0A: write(word: "\\n")
            case 0..<0x20: write(word: "\\u00\(byte < 0x10 ? "0" : "")\(String(byte, radix: 16))")
            default: bytes.append(byte)
            }
        }
    }

    mutating func write(word: String) { bytes.append(contentsOf: word.utf8) }

    mutating func write(_ number: some BinaryInteger) { write(word: number.description) }

    mutating func write(_ number: some BinaryFloatingPoint & LosslessStringConvertible) throws {
        guard number.isFinite else {
            throw EncodingError.invalidValue(
                number, EncodingError.Context(codingPath: [], debugDescription: "JSON has no number \(number)"))
        }
        let text = number.description
        write(word: text.hasSuffix(".0") ? String(text.dropLast(2)) : text)
    }
}

/// What the containers of one line write to. A pointer, since each access to a property of an object is checked at run time for being the only one.
extension UnsafeMutablePointer<JSONText> {
    func write<Value: Encodable>(_ value: Value) throws {
        if Value.self == Data.self, let data = value as? Data { return pointee.write(data.base64EncodedString()) }
        let (level, length) = (pointee.level, pointee.bytes.count)
        try value.encode(to: JSONLineEncoder(text: self))
        if pointee.bytes.count == length { _ = pointee.begin(UInt8(ascii: "{"), UInt8(ascii: "}")) }
        pointee.close(to: level)
    }
}

private struct JSONLineEncoder: Encoder, SingleValueEncodingContainer {
    let text: UnsafeMutablePointer<JSONText>
    /// Not kept: it would cost an array for each value, and errors name the value.
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        KeyedEncodingContainer(
            JSONObjectContainer<Key>(text: text, level: text.pointee.begin(UInt8(ascii: "{"), UInt8(ascii: "}"))))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        JSONArrayContainer(text: text, level: text.pointee.begin(UInt8(ascii: "["), UInt8(ascii: "]")))
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    // Values of the standard library's types encode themselves by these.
    func encodeNil() { text.pointee.write(word: "null") }
    func encode(_ value: Bool) { text.pointee.write(word: value ? "true" : "false") }
    func encode(_ value: String) { text.pointee.write(value) }
    func encode(_ value: some Encodable & BinaryInteger) { text.pointee.write(value) }
    func encode(_ value: some Encodable & BinaryFloatingPoint & LosslessStringConvertible) throws {
        try text.pointee.write(value)
    }
    func encode(_ value: some Encodable) throws { try text.write(value) }
}

private struct JSONObjectContainer<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let text: UnsafeMutablePointer<JSONText>
    let level: Int
    var codingPath: [any CodingKey] { [] }

    func encodeNil(forKey key: Key) {
        text.pointee.member(key.stringValue, of: level)
        text.pointee.write(word: "null")
    }

    func encode(_ value: some Encodable, forKey key: Key) throws {
        text.pointee.member(key.stringValue, of: level)
        try text.write(value)
    }

    func encode(_ value: some Encodable & BinaryInteger, forKey key: Key) {
        text.pointee.member(key.stringValue, of: level)
        text.pointee.write(value)
    }

    func encode(_ value: String, forKey key: Key) {
        text.pointee.member(key.stringValue, of: level)
        text.pointee.write(value)
    }

    func nestedContainer<Nested>(keyedBy type: Nested.Type, forKey key: Key) -> KeyedEncodingContainer<Nested> {
        encoder(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { encoder(key).unkeyedContainer() }

    func superEncoder() -> any Encoder {
        text.pointee.member("super", of: level)
        return JSONLineEncoder(text: text)
    }

    func superEncoder(forKey key: Key) -> any Encoder { encoder(key) }

    private func encoder(_ key: Key) -> JSONLineEncoder {
        text.pointee.member(key.stringValue, of: level)
        return JSONLineEncoder(text: text)
    }
}

private struct JSONArrayContainer: UnkeyedEncodingContainer {
    let text: UnsafeMutablePointer<JSONText>
    let level: Int
    var codingPath: [any CodingKey] { [] }
    private(set) var count = 0

    init(text: UnsafeMutablePointer<JSONText>, level: Int) {
        (self.text, self.level) = (text, level)
    }

    mutating func encodeNil() {
        next()
        text.pointee.write(word: "null")
    }

    mutating func encode(_ value: some Encodable) throws {
        next()
        try text.write(value)
    }

    mutating func nestedContainer<Nested>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
        encoder().container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { encoder().unkeyedContainer() }

    mutating func superEncoder() -> any Encoder { encoder() }

    private mutating func encoder() -> JSONLineEncoder {
        next()
        return JSONLineEncoder(text: text)
    }

    private mutating func next() {
        text.pointee.member(of: level)
        count += 1
    }
}
