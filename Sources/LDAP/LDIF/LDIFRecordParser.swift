import FoundationEssentials

/// Reads one record from its unfolded lines (RFC 2849, "Formal Syntax Definition of LDIF"): which line may follow which.
struct LDIFRecordParser {
    let source: String
    let lines: [LDIFLine]
    let urlContents: LDIFParser.URLContents?
    private var place = 0

    /// - Parameter lines: at least one.
    init(source: String, lines: [LDIFLine], urlContents: LDIFParser.URLContents?) {
        self.source = source
        self.lines = lines
        self.urlContents = urlContents
    }

    /// - Returns: nil for a version line without a record.
    mutating func record() throws(LDAPSyntaxError) -> LDIFRecord? {
        if let field = try peek(), field.keyword == "version" {
            place += 1
            guard try word(of: field) == "1" else {
                throw error(at: field.number, "this version of LDIF is not known", hint: "write version: 1")
            }
        }
        guard let first = try peek() else { return nil }
        guard first.keyword == "dn" else { throw recordWithoutDN(first) }
        place += 1
        let dn = try dn(of: first)
        var controls: [Control] = []
        while let field = try peek(), field.keyword == "control" {
            place += 1
            controls.append(try control(field))
        }
        let change: LDIFChange
        if let field = try peek(), field.keyword == "changetype" {
            place += 1
            change = try self.change(of: field)
        } else if let control = controls.first {
            throw error(
                at: first.number, "there is a control (\(control.identifier)), but no change that it goes with",
                hint: "write a changetype line after the control lines")
        } else {
            change = .content(try attributes())
        }
        if place < lines.count {
            throw error(
                at: lines[place].number, "the change is complete, but the record goes on",
                hint: "remove the line, or put an empty line before the next record")
        }
        return LDIFRecord(dn: dn, change: change, controls: controls, line: first.number)
    }

    // MARK: Changes

    private mutating func change(of field: LDIFLine) throws(LDAPSyntaxError) -> LDIFChange {
        let type = try word(of: field)
        switch type {
        case "add":
            let attributes = try attributes()
            guard !attributes.isEmpty else {
                throw error(at: field.number, "an entry to add has no attributes", hint: "write them as name: value")
            }
            return .add(attributes)
        case "delete":
            return .delete
        case "modify":
            return .modify(try modifications())
        case "modrdn", "moddn":
            return try rename()
        default:
            throw error(
                at: field.number, "\(type.quotedForMessage) is not a kind of change",
                hint: "write one of add, delete, modify, modrdn, moddn")
        }
    }

    /// The lines to the record's end, gathered by attribute in the order of first appearance.
    private mutating func attributes() throws(LDAPSyntaxError) -> [Attribute] {
        var attributes: [Attribute] = []
        var places: [AttributeName: Int] = [:]
        while let field = try peek() {
            guard field.keyword != "dn" else {
                throw error(
                    at: field.number, "a record begins within a record", hint: "put an empty line before the dn line")
            }
            guard field.keyword != "changetype" else {
                throw error(
                    at: field.number, "changetype follows the record's first attribute",
                    hint: "write it directly after the dn line and the control lines")
            }
            place += 1
            let name = try attributeName(field.name, at: field.number)
            let value = try value(of: field)
            if let known = places[name] {
                attributes[known].values.append(value)
            } else {
                places[name] = attributes.count
                attributes.append(Attribute(name, [value]))
            }
        }
        return attributes
    }

    private mutating func modifications() throws(LDAPSyntaxError) -> [Modification] {
        var modifications: [Modification] = []
        while let field = try peek() {
            guard let action = Modification.Action(rawValue: field.keyword) else {
                throw error(
                    at: field.number, "\(field.name.quotedForMessage) does not begin a modification",
                    hint: "write add:, delete:, replace: or increment: and the attribute's name")
            }
            place += 1
            let name = try attributeName(try text(of: field).trimmedOfSpaces, at: field.number)
            var modification = Modification(action, name, [])
            while !takeSeparator(), let line = try peek() {
                guard AttributeName(unchecked: line.name) == name else {
                    throw error(
                        at: line.number, "\(line.name.quotedForMessage) is in a modification of \(name)",
                        hint: "write \(name): and a value, or end the modification before with a line of one \"-\"")
                }
                place += 1
                modification.values.append(try value(of: line))
            }
            try check(modification, at: field.number)
            modifications.append(modification)
        }
        return modifications
    }

    /// RFC 4511, section 4.6, and RFC 4525, section 1: a form that a server would refuse.
    private func check(_ modification: Modification, at line: Int) throws(LDAPSyntaxError) {
        switch modification.action {
        case .add where modification.values.isEmpty:
            throw error(
                at: line, "no value to add", hint: "write \(modification.attribute): and a value below this line")
        case .increment where modification.values.count != 1:
            throw error(
                at: line, "increment needs one value",
                hint: "write \(modification.attribute): and a number below this line")
        default:
            break
        }
    }

    /// Steps over the line of one `-` that ends a modification.
    private mutating func takeSeparator() -> Bool {
        guard place < lines.count, lines[place].isSeparator else { return false }
        place += 1
        return true
    }

    private mutating func rename() throws(LDAPSyntaxError) -> LDIFChange {
        let nameField = try required("newrdn", hint: "write newrdn: and the new name=value")
        let newName = try text(of: nameField)
        let newRDN: RDN
        do throws(LDAPSyntaxError) {
            newRDN = try RDN(parsing: newName)
        } catch {
            throw self.error(error, at: nameField.number)
        }
        let deleteField = try required(
            "deleteoldrdn", hint: "write deleteoldrdn: 1 to drop the old value, 0 to keep it")
        let deleteWord = try word(of: deleteField)
        guard deleteWord == "0" || deleteWord == "1" else {
            throw error(
                at: deleteField.number, "deleteoldrdn is \(deleteWord.quotedForMessage)",
                hint: "write 1 to drop the old value, 0 to keep it")
        }
        var newSuperior: DN?
        if let field = try peek(), field.keyword == "newsuperior" {
            place += 1
            newSuperior = try dn(of: field)
        }
        return .rename(newRDN: newRDN, deleteOldRDN: deleteWord == "1", newSuperior: newSuperior)
    }

    private mutating func required(_ keyword: String, hint: String) throws(LDAPSyntaxError) -> LDIFLine {
        guard let field = try peek(), field.keyword == keyword else {
            throw error(
                at: place < lines.count ? lines[place].number : lines[lines.count - 1].number,
                "\(keyword) is missing\(place < lines.count ? " before this line" : " after this line")", hint: hint)
        }
        place += 1
        return field
    }

    // MARK: Errors

    private func recordWithoutDN(_ field: LDIFLine) -> LDAPSyntaxError {
        let isSearchResult = field.keyword == "search" || field.keyword == "result"
        return error(
            at: field.number, "the record begins with \(field.name.quotedForMessage) instead of dn",
            hint: isSearchResult
                ? "remove ldapsearch's result lines (ldapsearch -LLL leaves them out)"
                : "write a dn line first, and separate records, and only them, with empty lines")
    }

    func error(_ error: LDAPSyntaxError, at line: Int) -> LDAPSyntaxError {
        self.error(at: line, "\(error.place): \(error.reason)", hint: error.hint)
    }

    func error(at line: Int, _ reason: String, hint: String) -> LDAPSyntaxError {
        LDAPSyntaxError(place: "\(source):\(line)", position: line, reason: reason, hint: hint)
    }
}

/// The parts of one line: names, values in their three forms, controls.
extension LDIFRecordParser {
    /// `control: oid [true|false] [value]`.
    func control(_ field: LDIFLine) throws(LDAPSyntaxError) -> Control {
        guard case .plain(let content) = field.content else {
            throw error(at: field.number, "a control line is not in base64", hint: "write only the control's value so")
        }
        let separators = [UInt8(ascii: " "), UInt8(ascii: ":")]
        let oidEnd = content.firstIndex { separators.contains($0) } ?? content.endIndex
        let oid = String(decoding: content[..<oidEnd], as: UTF8.self)
        guard let first = content.first, first.isASCIIDigit, AttributeName.isWellFormed(oid), !oid.contains(";") else {
            throw error(
                at: field.number, "\(oid.quotedForMessage) is not the type of a control",
                hint: "write it as a dotted number")
        }
        let rest = content[oidEnd...].drop { $0 == UInt8(ascii: " ") }
        let wordEnd = rest.firstIndex { separators.contains($0) } ?? rest.endIndex
        let word = String(decoding: rest[..<wordEnd], as: UTF8.self)
        guard ["", "true", "false"].contains(word.lowercased()) else {
            throw error(
                at: field.number, "a control's criticality is \(word.quotedForMessage)", hint: "write true or false")
        }
        let valueSpecification = rest[wordEnd...].drop { $0 == UInt8(ascii: " ") }
        var value: [UInt8]?
        if let colon = valueSpecification.first {
            guard colon == UInt8(ascii: ":") else {
                throw error(
                    at: field.number, "there is more behind the control's criticality",
                    hint: "put a colon before the control's value")
            }
            value = try self.value(LDIFLine.Content(afterColon: valueSpecification.dropFirst()), of: field).bytes
        }
        return Control(oid, isCritical: word.lowercased() == "true", value: value)
    }

    /// The line that is next; nil at the record's end.
    func peek() throws(LDAPSyntaxError) -> LDIFLine? {
        guard place < lines.count else { return nil }
        let line = lines[place]
        guard !line.isSeparator else {
            throw error(
                at: line.number, "a line of one \"-\" that ends no modification",
                hint: "remove it, or write the modification before it")
        }
        guard line.bytes.contains(UInt8(ascii: ":")) else {
            throw error(
                at: line.number, "\(line.name.quotedForMessage) has no colon",
                hint: "write name: value; begin a line that goes on with the one before with a space")
        }
        return line
    }

    func value(of line: LDIFLine) throws(LDAPSyntaxError) -> AttributeValue { try value(line.content, of: line) }

    func value(_ content: LDIFLine.Content, of field: LDIFLine) throws(LDAPSyntaxError) -> AttributeValue {
        switch content {
        case .plain(let bytes):
            if let byte = bytes.first(where: { $0 == 0 || $0 == UInt8(ascii: "\r") }) {
                throw error(
                    at: field.number,
                    "the value of \(field.name) holds a \(byte == 0 ? "NUL" : "carriage return") character",
                    hint: "write the value in base64, after two colons, or end lines with LF or CRLF")
            }
            return AttributeValue(bytes: bytes)
        case .base64(let text):
            // RFC 2849 allows neither white space nor bits after the last byte, which no encoder writes.
            guard let bytes = Data(base64Encoded: Data(text)), bytes.base64EncodedString().utf8.elementsEqual(text)
            else {
                throw error(
                    at: field.number, "the value of \(field.name) is not base64",
                    hint: "encode it again (\"base64 -w 0\"), or use one colon for a plain value")
            }
            return AttributeValue(bytes: bytes)
        case .url(let text):
            let url = String(decoding: text, as: UTF8.self)
            var reason = "values from URLs are not taken here"
            if let urlContents {
                do { return AttributeValue(bytes: try urlContents(url)) } catch { reason = "\(error)" }
            }
            throw error(
                at: field.number, "the value of \(field.name) cannot be read from \(url.quotedForMessage): \(reason)",
                hint: "write the URL of a file that can be read, as file:///path, or the value itself")
        }
    }

    func text(of field: LDIFLine) throws(LDAPSyntaxError) -> String {
        if case .url = field.content {
            throw error(at: field.number, "\(field.name) may not come from a URL", hint: "write it here")
        }
        guard let text = try value(of: field).text else {
            throw error(at: field.number, "\(field.name) is not UTF-8", hint: "save the file as UTF-8")
        }
        return text
    }

    /// A value that is one of a few words: in lower case, without spaces around it.
    func word(of field: LDIFLine) throws(LDAPSyntaxError) -> String {
        try text(of: field).trimmedOfSpaces.lowercased()
    }

    func dn(of field: LDIFLine) throws(LDAPSyntaxError) -> DN {
        let name = try text(of: field)
        do throws(LDAPSyntaxError) {
            return try DN(parsing: name)
        } catch {
            throw self.error(error, at: field.number)
        }
    }

    func attributeName(_ spelling: String, at line: Int) throws(LDAPSyntaxError) -> AttributeName {
        guard let name = AttributeName(parsing: spelling) else {
            throw error(at: line, "\(spelling.quotedForMessage) is not an attribute name", hint: AttributeName.hint)
        }
        return name
    }
}

extension String {
    var trimmedOfSpaces: String {
        let start = drop { $0 == " " }
        return String(start.reversed().drop { $0 == " " }.reversed())
    }
}
