import FoundationEssentials

/// Writes LDIF (RFC 2849) that OpenLDAP's tools take and `LDIFParser` reads back.
///
/// Everything but comments is printable ASCII: other values are written in base64. Lines are folded at 76 characters.
/// A record with more than one control is right, but `ldapmodify` of OpenLDAP 2.5.13 refuses it.
/// An attribute, or a modification to add, without values cannot be read back; a server would refuse it anyway.
package struct LDIFWriter {
    /// The optional first line of a file, and an empty line.
    package static let versionLine = "version: 1\n\n"

    /// The record, and the empty line that ends it.
    package static func text(for record: LDIFRecord) -> String {
        var output = LDIFWriter()
        output.line("dn", record.dn.description)
        for control in record.controls {
            let head = "control: \(control.identifier) \(control.isCritical)"
            if let value = control.value { output.line(head, value) } else { output.line(verbatim: head) }
        }
        switch record.change {
        case .content(let attributes):
            output.attributes(attributes)
        case .add(let attributes):
            output.line("changetype", "add")
            output.attributes(attributes)
        case .delete:
            output.line("changetype", "delete")
        case .modify(let modifications):
            output.line("changetype", "modify")
            for modification in modifications {
                output.line(modification.action.rawValue, modification.attribute.spelling)
                output.values(modification.values, of: modification.attribute)
                output.line(verbatim: "-")
            }
        case .rename(let newRDN, let deleteOldRDN, let newSuperior):
            output.line("changetype", "modrdn")
            output.line("newrdn", newRDN.description)
            output.line("deleteoldrdn", deleteOldRDN ? "1" : "0")
            if let newSuperior { output.line("newsuperior", newSuperior.description) }
        }
        output.line(verbatim: "")
        return String(decoding: output.bytes, as: UTF8.self)
    }

    /// Text for people that parsers pass over: each line of it after `# `.
    package static func comment(_ text: String) -> String {
        text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
            .map { ($0.isEmpty ? "#" : "# \($0)") + "\n" }.joined()
    }

    private static let width = 76
    private var bytes: [UInt8] = []

    private mutating func attributes(_ attributes: [Attribute]) {
        for attribute in attributes { values(attribute.values, of: attribute.name) }
    }

    private mutating func values(_ values: [AttributeValue], of name: AttributeName) {
        for value in values { line(name.spelling, value.bytes) }
    }

    private mutating func line(_ name: String, _ value: String) { line(name, Array(value.utf8)) }

    private mutating func line(_ name: String, _ value: [UInt8]) {
        if value.isEmpty {
            fold(Array("\(name):".utf8))
        } else if Self.isPlain(value) {
            fold(Array("\(name): ".utf8) + value)
        } else {
            fold(Array("\(name):: \(Data(value).base64EncodedString())".utf8))
        }
    }

    private mutating func line(verbatim line: String) { fold(Array(line.utf8)) }

    /// A SAFE-STRING that is visible on a terminal: no control characters, and no space at its end.
    private static func isPlain(_ value: [UInt8]) -> Bool {
        guard let first = value.first, !" :<".utf8.contains(first), value.last != UInt8(ascii: " ") else {
            return false
        }
        return value.allSatisfy { (0x20..<0x7F).contains($0) }
    }

    private mutating func fold(_ line: [UInt8]) {
        bytes += line.prefix(Self.width)
        var place = Self.width
        while place < line.count {
            let end = min(place + Self.width - 1, line.count)
            bytes += [UInt8(ascii: "\n"), UInt8(ascii: " ")]
            bytes += line[place..<end]
            place = end
        }
        bytes.append(UInt8(ascii: "\n"))
    }
}
