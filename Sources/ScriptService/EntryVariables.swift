import FoundationEssentials
import LDAP
import Provisioning

/// An entry's attributes as environment variables.
///
/// For an attribute `mail`: `PROV_ATTR_MAIL_COUNT`, `PROV_ATTR_MAIL_1` and so on for the values in the order of the LDAP server (which has no
/// meaning), and `PROV_ATTR_MAIL` if there is exactly one. In names everything but letters and digits becomes `_`. A value that is not text, or
/// has control characters other than TAB and line feed, is encoded in base64, and the name of its variable ends in `_BASE64`.
struct EntryVariables {
    /// The kernel's MAX_ARG_STRLEN without the NUL.
    static let largestVariable = 131_071
    /// The most bytes of all variables; the kernel's default limit for arguments and environment is 2 MiB.
    static let largestTotal = 1 << 20

    private(set) var values: [String: String] = [:]
    private var total = 0
    private let entry: Entry

    /// - Throws: code 1 if a value is too long for a variable, or all together for a process.
    init(_ entry: Entry, attributes: [AttributeName]) throws(ProvisioningFailure) {
        self.entry = entry
        for name in attributes {
            let values = entry[name]
            let variable = Self.variable(name)
            try add(variable + "_COUNT", String(values.count), of: name)
            for (place, value) in values.enumerated() { try add("\(variable)_\(place + 1)", value, of: name) }
            if values.count == 1, let value = values.first { try add(variable, value, of: name) }
        }
    }

    private mutating func add(
        _ variable: String, _ value: AttributeValue, of name: AttributeName
    ) throws(ProvisioningFailure) {
        if let text = value.text, !text.unicodeScalars.contains(where: { $0.isControl && $0 != "\n" && $0 != "\t" }) {
            try add(variable, text, of: name)
        } else {
            try add(variable + "_BASE64", Data(value.bytes).base64EncodedString(), of: name)
        }
    }

    private mutating func add(
        _ variable: String, _ value: String, of name: AttributeName
    ) throws(ProvisioningFailure) {
        let size = variable.utf8.count + 1 + value.utf8.count
        guard size <= Self.largestVariable else {
            throw tooLong(
                "\(name) makes a variable of \(size) bytes, and the kernel takes \(Self.largestVariable)", name)
        }
        // Plus NUL and pointer.
        total += size + 9
        guard total <= Self.largestTotal else {
            throw tooLong("with \(name) the attributes are longer than \(Self.largestTotal) bytes", name)
        }
        values[variable] = value
    }

    private func tooLong(_ reason: String, _ name: AttributeName) -> ProvisioningFailure {
        ProvisioningFailure(
            .undefinedError, reason: "\(entry.dn): \(reason)",
            hint: "take \(name) out of ATTRIBUTES and let the script read it from LDAP, or shorten the entry")
    }

    static func variable(_ name: AttributeName) -> String {
        let folded = name.spelling.uppercased().unicodeScalars.map { scalar -> Unicode.Scalar in
            let isPlain = ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
            return isPlain ? scalar : "_"
        }
        return "PROV_ATTR_" + String(String.UnicodeScalarView(folded))
    }

    /// Whether variables of the two attributes could have the same name.
    static func overlap(_ first: AttributeName, _ second: AttributeName) -> Bool {
        let names = [variable(first), variable(second)].sorted { $0.utf8.count < $1.utf8.count }
        guard names[1].hasPrefix(names[0]) else { return false }
        let rest = names[1].dropFirst(names[0].count)
        return rest.wholeMatch(of: #/(_COUNT|_BASE64|_[0-9]+(_BASE64)?)?/#) != nil
    }
}
