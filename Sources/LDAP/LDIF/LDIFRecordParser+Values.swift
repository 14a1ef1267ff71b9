/// What stands in one line: names, values in their three forms, controls.
extension LDIFRecordParser {
    /// `control: oid [true|false] [value]`.
    func control(_ field: LDIFField) throws(LDIFError) -> LDIFControl {
        guard case .plain(let content) = field.content else {
            throw error(at: field.line, "a control line is not in base64", hint: "write only the control's value so")
        }
        let separators = [UInt8(ascii: " "), UInt8(ascii: ":")]
        let oidEnd = content.firstIndex { separators.contains($0) } ?? content.endIndex
        let oid = String(decoding: content[..<oidEnd], as: UTF8.self)
        guard let first = content.first, first.isASCIIDigit, AttributeName.isWellFormed(oid), !oid.contains(";") else {
            throw error(
                at: field.line, "\(oid.quotedForMessage) is not the type of a control",
                hint: "write it as a dotted number")
        }
        let rest = content[oidEnd...].drop { $0 == UInt8(ascii: " ") }
        let wordEnd = rest.firstIndex { separators.contains($0) } ?? rest.endIndex
        let word = String(decoding: rest[..<wordEnd], as: UTF8.self)
        guard ["", "true", "false"].contains(word.lowercased()) else {
            throw error(
                at: field.line, "a control's criticality is \(word.quotedForMessage)", hint: "write true or false")
        }
        let valueSpecification = rest[wordEnd...].drop { $0 == UInt8(ascii: " ") }
        var control = LDIFControl(oid, isCritical: word.lowercased() == "true")
        if let colon = valueSpecification.first {
            guard colon == UInt8(ascii: ":") else {
                throw error(
                    at: field.line, "there is more behind the control's criticality",
                    hint: "put a colon before the control's value")
            }
            let content = LDIFField.Content(afterColon: valueSpecification.dropFirst())
            control.value = try value(of: LDIFField(line: field.line, name: field.name, content: content))
        }
        return control
    }

    /// The field of the line that is next; nil at the record's end.
    func peek() throws(LDIFError) -> LDIFField? {
        guard place < lines.count else { return nil }
        let line = lines[place]
        guard !line.isSeparator else {
            throw error(
                at: line.number, "a line of one \"-\" that ends no modification",
                hint: "remove it, or write the modification before it")
        }
        guard let colon = line.bytes.firstIndex(of: UInt8(ascii: ":")) else {
            let text = String(decoding: line.bytes, as: UTF8.self)
            throw error(
                at: line.number, "\(text.quotedForMessage) has no colon",
                hint: "write name: value; begin a line that goes on with the one before with a space")
        }
        return LDIFField(
            line: line.number, name: String(decoding: line.bytes[..<colon], as: UTF8.self),
            content: LDIFField.Content(afterColon: line.bytes[(colon + 1)...]))
    }

    func value(of field: LDIFField) throws(LDIFError) -> AttributeValue {
        switch field.content {
        case .plain(let bytes):
            if let byte = bytes.first(where: { $0 == 0 || $0 == UInt8(ascii: "\r") }) {
                throw error(
                    at: field.line,
                    "the value of \(field.name) holds a \(byte == 0 ? "NUL" : "carriage return") character",
                    hint: "write the value in base64, after two colons, or end lines with LF or CRLF")
            }
            return AttributeValue(bytes: bytes)
        case .base64(let text):
            guard let bytes = Base64.decode(text) else {
                throw error(
                    at: field.line, "the value of \(field.name) is not base64",
                    hint: "write it anew (\"base64 -w 0\"), or use one colon for a plain value")
            }
            return AttributeValue(bytes: bytes)
        case .url(let text):
            let url = String(decoding: text, as: UTF8.self)
            do {
                return AttributeValue(bytes: try urlContents(url))
            } catch {
                throw self.error(
                    at: field.line, "the value of \(field.name) cannot be read from \(url.quotedForMessage): \(error)",
                    hint: "write the URL of a file that can be read, as file:///path, or the value itself")
            }
        }
    }

    func text(of field: LDIFField) throws(LDIFError) -> String {
        if case .url = field.content {
            throw error(at: field.line, "\(field.name) may not come from a URL", hint: "write it here")
        }
        guard let text = try value(of: field).text else {
            throw error(at: field.line, "\(field.name) is not UTF-8", hint: "save the file as UTF-8")
        }
        return text
    }

    /// A value that is one of a few words: in lower case, without spaces around it.
    func word(of field: LDIFField) throws(LDIFError) -> String {
        try text(of: field).trimmedOfSpaces.lowercased()
    }

    func dn(of field: LDIFField) throws(LDIFError) -> DN {
        let name = try text(of: field)
        do throws(DNSyntaxError) {
            return try DN(parsing: name)
        } catch {
            throw self.error(error, at: field.line)
        }
    }

    func attributeName(_ spelling: String, at line: Int) throws(LDIFError) -> AttributeName {
        do throws(AttributeName.Invalid) {
            return try AttributeName(parsing: spelling)
        } catch {
            throw self.error(
                at: line, "\(spelling.quotedForMessage) is not an attribute name", hint: AttributeName.Invalid.hint)
        }
    }
}

extension String {
    var trimmedOfSpaces: String {
        let start = drop { $0 == " " }
        return String(start.reversed().drop { $0 == " " }.reversed())
    }
}
