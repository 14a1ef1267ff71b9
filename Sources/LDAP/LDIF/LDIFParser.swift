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
    /// The lines up to an empty one, with the number of the first; `bytes` is nil when they were larger than the limit.
    private typealias Paragraph = (line: Int, bytes: [UInt8]?)
    /// Those that were not taken yet.
    private var complete: ArraySlice<Paragraph> = []
    private var unfinished: Paragraph = (1, [])
    /// Of the line that comes next.
    private var number = 1
    private var isLineEmpty = true

    /// - Parameters:
    ///   - source: the file's name, for messages.
    ///   - limit: how many bytes one record may have.
    ///   - urlContents: reads the content behind a URL; nil: such values are refused.
    package init(source: String, limit: Int = 64 << 20, urlContents: URLContents? = nil) {
        self.source = source
        self.limit = limit
        self.urlContents = urlContents
    }

    /// Takes the next bytes of the file, cut anywhere.
    package mutating func append(_ bytes: some Sequence<UInt8>) {
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                if byte != UInt8(ascii: "\r") { isLineEmpty = false }
                keep(byte)
                continue
            }
            number += 1
            if isLineEmpty { endParagraph() } else { keep(byte) }
            isLineEmpty = true
        }
    }

    private mutating func keep(_ byte: UInt8) {
        unfinished.bytes?.append(byte)
        if let count = unfinished.bytes?.count, count > limit { unfinished.bytes = nil }
    }

    private mutating func endParagraph() {
        if unfinished.bytes?.isEmpty != true { complete.append(unfinished) }
        unfinished = (number, [])
    }

    /// Says that the file has ended; its last line need not end in a line feed.
    package mutating func finish() { endParagraph() }

    /// The next record.
    ///
    /// - Returns: nil when more bytes are needed or, after `finish()`, when there are no more records.
    /// - Throws: `LDAPSyntaxError` when a record cannot be read; call again to continue with the next one.
    package mutating func next() throws(LDAPSyntaxError) -> LDIFRecord? {
        while let paragraph = complete.popFirst() {
            let lines = try lines(of: paragraph)
            guard !lines.isEmpty else { continue }
            var parser = LDIFRecordParser(source: source, lines: lines, urlContents: urlContents)
            if let record = try parser.record() { return record }
        }
        return nil
    }

    /// Lines end in LF or CRLF; one that begins with a space continues the one before. A byte order mark before the first line is dropped.
    private func lines(of paragraph: Paragraph) throws(LDAPSyntaxError) -> [LDIFLine] {
        guard let bytes = paragraph.bytes else {
            throw error(
                paragraph.line, "the record is larger than \(limit) bytes",
                hint: "raise the limit, or put an empty line between the records if one is missing")
        }
        var lines: [LDIFLine] = []
        var isInComment = false
        for (offset, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated()
        {
            var line = line
            let number = paragraph.line + offset
            if number == 1, line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            switch line.first {
            case nil: continue
            case UInt8(ascii: "#"): isInComment = true
            case UInt8(ascii: " ") where isInComment: continue
            case UInt8(ascii: " "):
                guard let last = lines.indices.last else {
                    throw error(
                        number, "the line begins with a space, but there is no line before it to go on with",
                        hint: "remove the space, or the empty line above")
                }
                lines[last].bytes += line.dropFirst()
            default:
                isInComment = false
                lines.append(LDIFLine(number: number, bytes: Array(line)))
            }
        }
        return lines
    }

    private func error(_ line: Int, _ reason: String, hint: String) -> LDAPSyntaxError {
        LDAPSyntaxError(place: "\(source):\(line)", position: line, reason: reason, hint: hint)
    }
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

/// A line after unfolding: a name, a colon, and a value.
struct LDIFLine: Sendable {
    /// The value, not yet decoded: a `value-spec` of RFC 2849, without the spaces before it, and without TABs there, which ldapmodify passes over as
    /// well.
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

    /// The first physical line's number, from 1.
    let number: Int
    var bytes: [UInt8]

    /// Whether the line is the `-` that ends a modification; spaces behind it are of no matter.
    var isSeparator: Bool {
        bytes.first == UInt8(ascii: "-") && bytes.dropFirst().allSatisfy { $0 == UInt8(ascii: " ") }
    }

    /// Up to the colon, or the whole line.
    var name: String { String(decoding: bytes.prefix { $0 != UInt8(ascii: ":") }, as: UTF8.self) }

    /// The name as a word of the format.
    var keyword: String { name.lowercased() }

    var content: Content { Content(afterColon: bytes.drop { $0 != UInt8(ascii: ":") }.dropFirst()) }
}
