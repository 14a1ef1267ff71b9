/// Reads LDIF (RFC 2849) from a stream: bytes in, records out.
///
/// Feed it with `append(_:)`, take records with `next()` until there is none, and go on; after the last bytes call
/// `finish()` and take the rest. No more than one record is held in memory if each piece is drained before the next.
/// An error concerns one record: the following call goes on with the next one.
///
/// Beyond the RFC it takes what OpenLDAP's tools write and take: UTF-8 in values that are not in base64, a missing
/// last `-`, entries without attributes, and a version line before any record, so that files can be joined.
public struct LDIFParser: Sendable {
    /// Gives the content behind the URL of a value such as `jpegPhoto:< file:///…`.
    public typealias URLContents = @Sendable (_ url: String) throws -> [UInt8]

    private let source: String
    private let limit: Int
    private let urlContents: URLContents
    private var splitter: LDIFLineSplitter
    private var lines: [LDIFLine] = []  // unfolded, of the record under way
    private var size = 0  // what `lines` take, in bytes
    private var isInComment = false  // a folded line would go on with a comment
    private var isSkipping = false  // to the end of a record that was refused

    /// - Parameters:
    ///   - source: the file's name, for messages.
    ///   - limit: how many bytes one line, and one record, may take, bookkeeping included.
    ///   - urlContents: reads the content behind a URL; without it such values are refused.
    public init(source: String, limit: Int = 64 << 20, urlContents: @escaping URLContents = Self.refuseURLs) {
        self.source = source
        self.limit = limit
        self.urlContents = urlContents
        splitter = LDIFLineSplitter(limit: limit)
    }

    /// Takes the next bytes of the file, cut anywhere.
    public mutating func append(_ bytes: some Sequence<UInt8>) { splitter.append(bytes) }

    /// Says that the file has ended; its last line need not end in a line feed.
    public mutating func finish() { splitter.finish() }

    /// The next record.
    ///
    /// - Returns: nil when more bytes are needed or, after `finish()`, when there are no more records.
    /// - Throws: `LDIFError` when a record cannot be read; call again to go on with the next one.
    public mutating func next() throws(LDIFError) -> LDIFRecord? {
        while let line = splitter.next() {
            switch line {
            case .tooLong:
                isInComment = false
                if !isSkipping { throw refuse(tooLarge: "the line") }
            case .text(let bytes) where bytes.isEmpty:
                isInComment = false
                isSkipping = false
                if let record = try takeRecord() { return record }
            case .text(let bytes):
                if !isSkipping { try take(bytes) }
            }
        }
        return try splitter.isAtEnd ? takeRecord() : nil
    }

    /// Refuses every URL: the default, since a parser of values reads no files.
    public static let refuseURLs: URLContents = { _ in throw URLRefusal() }

    private mutating func take(_ line: ArraySlice<UInt8>) throws(LDIFError) {
        switch line.first {
        case UInt8(ascii: "#"):
            isInComment = true
        case UInt8(ascii: " "):
            if isInComment { return }
            guard let last = lines.indices.last else {
                throw refuse(
                    "the line begins with a space, but there is no line before it to go on with",
                    hint: "remove the space, or the empty line above")
            }
            try charge(line.count)
            lines[last].bytes.append(contentsOf: line.dropFirst())
        default:
            isInComment = false
            try charge(line.count + LDIFLine.overhead)
            lines.append(LDIFLine(number: splitter.number, bytes: Array(line)))
        }
    }

    private mutating func takeRecord() throws(LDIFError) -> LDIFRecord? {
        guard !lines.isEmpty else { return nil }
        defer { dropRecord() }
        var parser = LDIFRecordParser(source: source, lines: lines, urlContents: urlContents)
        return try parser.record()
    }

    private mutating func charge(_ bytes: Int) throws(LDIFError) {
        size += bytes
        if size > limit { throw refuse(tooLarge: "the record") }
    }

    private mutating func refuse(tooLarge what: String) -> LDIFError {
        refuse(
            "\(what) is larger than \(limit) bytes",
            hint: "raise the limit, or put an empty line between the records if one is missing")
    }

    private mutating func refuse(_ reason: String, hint: String) -> LDIFError {
        dropRecord()
        isSkipping = true
        return LDIFError(source: source, line: splitter.number, reason: reason, hint: hint)
    }

    private mutating func dropRecord() {
        lines.removeAll()
        size = 0
    }

    private struct URLRefusal: Error, CustomStringConvertible {
        var description: String { "values from URLs are not taken here" }
    }
}

/// Why a record of an LDIF file cannot be read.
public struct LDIFError: Error, Hashable, CustomStringConvertible {
    /// The file's name, as it was given to the parser.
    public let source: String
    /// The line, from 1; of a folded line the first.
    public let line: Int
    /// What is wrong there.
    public let reason: String
    /// What to write instead.
    public let hint: String

    /// file:line: reason; hint
    public var description: String { "\(source):\(line): \(reason); \(hint)" }
}
