/// Reads LDIF (RFC 2849) from a stream: bytes in, records out.
///
/// Append bytes with `append(_:)`, take records with `next()` until it returns nil, and repeat; after the last bytes call
/// `finish()` and take the rest. No more than one record is held in memory if each piece is drained before the next.
/// An error concerns one record: the following call continues with the next one.
///
/// Beyond the RFC it accepts the forms that OpenLDAP's tools write and accept: UTF-8 in values that are not in base64, a missing
/// last `-`, entries without attributes, and a version line before any record, so that files can be joined.
package struct LDIFParser: Sendable {
    /// Gives the content behind the URL of a value such as `jpegPhoto:< file:///…`.
    package typealias URLContents = @Sendable (_ url: String) throws -> [UInt8]

    private let source: String
    private let limit: Int
    private let urlContents: URLContents?
    private var splitter: LDIFLineSplitter
    private var lines: [LDIFLine] = []  // unfolded, of the current record
    private var size = 0  // of `lines`, in bytes
    private var isInComment = false  // a folded line would continue a comment
    private var isSkipping = false  // to the end of a record that was refused

    /// - Parameters:
    ///   - source: the file's name, for messages.
    ///   - limit: how many bytes one line, and one record, may take, bookkeeping included.
    ///   - urlContents: reads the content behind a URL; nil: such values are refused.
    package init(source: String, limit: Int = 64 << 20, urlContents: URLContents? = nil) {
        self.source = source
        self.limit = limit
        self.urlContents = urlContents
        splitter = LDIFLineSplitter(limit: limit)
    }

    /// Takes the next bytes of the file, cut anywhere.
    package mutating func append(_ bytes: some Sequence<UInt8>) { splitter.append(bytes) }

    /// Says that the file has ended; its last line need not end in a line feed.
    package mutating func finish() { splitter.finish() }

    /// The next record.
    ///
    /// - Returns: nil when more bytes are needed or, after `finish()`, when there are no more records.
    /// - Throws: `LDIFError` when a record cannot be read; call again to continue with the next one.
    package mutating func next() throws(LDIFError) -> LDIFRecord? {
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
}

/// Why a record of an LDIF file cannot be read.
package struct LDIFError: Error, Hashable, CustomStringConvertible {
    package let source: String
    /// The line, from 1; of a folded line the first.
    package let line: Int
    package let reason: String
    package let hint: String

    package var description: String { "\(source):\(line): \(reason); \(hint)" }
}

/// One record of an LDIF file (RFC 2849): an entry, or a change to one.
package struct LDIFRecord: Hashable, Sendable {
    package var dn: DN
    package var change: LDIFChange
    /// To be sent with the change; a content record has none.
    package var controls: [Control]
    /// The number, from 1, of the record's first line in its file; 0 for a record that was not read.
    package var line: Int

    package init(dn: DN, change: LDIFChange, controls: [Control] = [], line: Int = 0) {
        self.dn = dn
        self.change = change
        self.controls = controls
        self.line = line
    }

    package init(_ entry: Entry) { self.init(dn: entry.dn, change: .content(entry.attributes)) }
}

/// The content of an LDIF record.
package enum LDIFChange: Hashable, Sendable {
    /// The entry's content, in a record without `changetype`. Values of one attribute are gathered in one place.
    case content([Attribute])
    /// `changetype: add`: the entry is to be added.
    case add([Attribute])
    /// `changetype: delete`: the entry is to be deleted.
    case delete
    /// `changetype: modify`: the entry's attributes are to be changed, in this order, all or none.
    case modify([Modification])
    /// `changetype: modrdn` and `moddn`: the entry is to get another name, or another place when `newSuperior` is given.
    case rename(newRDN: RDN, deleteOldRDN: Bool, newSuperior: DN?)
}

/// Cuts a stream of bytes into physical lines, wherever the stream was cut into pieces before.
///
/// Lines end in LF or CRLF; the last one may end with the file. A byte order mark before the first line is dropped.
struct LDIFLineSplitter: Sendable {
    enum Line {
        /// A line without its end.
        case text(ArraySlice<UInt8>)
        /// A line of more than `limit` bytes; handed out as soon as that is known, and once.
        case tooLong
    }

    /// The number, from 1, of the line that was handed out last.
    private(set) var number = 0
    private let limit: Int
    private var buffer: [UInt8] = []
    private var start = 0  // of the lines that were not returned yet
    private var scanned = 0  // there is no line feed between `start` and here
    private var isDropping = false  // the rest of a line that was too long
    private var isFinished = false

    /// - Parameter limit: bytes that a line may have, without the line feed.
    init(limit: Int) { self.limit = limit }

    mutating func append(_ bytes: some Sequence<UInt8>) {
        // Moving the rest to the front only when it is the smaller part keeps the work linear.
        if start > buffer.count / 2 {
            buffer.removeSubrange(..<start)
            scanned -= start
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    mutating func finish() { isFinished = true }

    /// Whether the stream has ended and every line was handed out.
    var isAtEnd: Bool { isFinished && start == buffer.count }

    /// - Returns: nil when there is no whole line, or, after `finish()`, none at all.
    mutating func next() -> Line? {
        while true {
            let lineFeed = buffer[scanned...].firstIndex(of: UInt8(ascii: "\n"))
            let end = lineFeed ?? buffer.count
            scanned = end
            let isComplete = lineFeed != nil || (isFinished && start < end)
            if isDropping {
                isDropping = !isComplete
                consume(through: lineFeed ?? end - 1)
                guard isComplete else { return nil }
                continue
            }
            if end - start > limit {
                number += 1
                isDropping = !isComplete
                consume(through: lineFeed ?? end - 1)
                return .tooLong
            }
            guard isComplete else { return nil }
            number += 1
            var line = buffer[start..<end]
            consume(through: lineFeed ?? end - 1)
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if number == 1, line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
            return .text(line)
        }
    }

    private mutating func consume(through last: Int) {
        start = last + 1
        scanned = start
    }
}

/// A line after unfolding.
struct LDIFLine: Sendable {
    /// The first physical line's number, from 1.
    let number: Int
    var bytes: [UInt8]

    /// Whether the line is the `-` that ends a modification; spaces behind it are of no matter.
    var isSeparator: Bool {
        bytes.first == UInt8(ascii: "-") && bytes.dropFirst().allSatisfy { $0 == UInt8(ascii: " ") }
    }

    /// The approximate memory of a line besides its bytes.
    static let overhead = 64
}

/// A line as name and value, the value not yet decoded.
struct LDIFField {
    /// A `value-spec` of RFC 2849, without the spaces before the value, and without TABs there, which ldapmodify passes over as well.
    enum Content {
        case plain(ArraySlice<UInt8>)
        case base64(ArraySlice<UInt8>)
        case url(ArraySlice<UInt8>)

        init(afterColon bytes: ArraySlice<UInt8>) {
            func value(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
                bytes.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            }
            switch bytes.first {
            case UInt8(ascii: ":"): self = .base64(value(bytes.dropFirst()))
            case UInt8(ascii: "<"): self = .url(value(bytes.dropFirst()))
            default: self = .plain(value(bytes))
            }
        }
    }

    /// The number of the line, from 1.
    let line: Int
    let name: String
    let content: Content

    /// The name as a word of the format.
    var keyword: String { name.lowercased() }
}
