import LDAP

/// Which attributes and classes a server knows, by the subschema entry (RFC 4512, section 4.2).
struct ServerSchema: Hashable {
    /// The names of each attribute, in lower case.
    private let attributes: [Set<String>]
    private let classes: Set<String>

    static let attributes: [AttributeName] = ["attributeTypes", "objectClasses"]

    /// - Returns: nil when the entry says nothing of attributes.
    init?(_ subschema: Entry) {
        func names(_ name: AttributeName) -> [Set<String>] { subschema[name].compactMap(\.text).map(Self.names) }
        attributes = names("attributeTypes")
        classes = Set(names("objectClasses").joined())
        if attributes.isEmpty { return nil }
    }

    /// All names of an attribute, in lower case; nil when the server does not know it.
    func names(of attribute: AttributeName) -> Set<String>? {
        let name = attribute.spelling.split(separator: ";").first?.lowercased() ?? ""
        return attributes.first { $0.contains(name) }
    }

    func knows(class name: String) -> Bool { classes.contains(name.lowercased()) }

    /// `( 1.2.3 NAME 'a' … )` or `( 1.2.3 NAME ( 'a' 'b' ) … )`; the number counts as a name.
    private static func names(_ description: String) -> Set<String> {
        let words = description.split(whereSeparator: \.isWhitespace).drop { $0 == "(" }
        var names: Set<String> = []
        if let number = words.first { names.insert(number.lowercased()) }
        guard let mark = words.firstIndex(of: "NAME") else { return names }
        for word in words[(mark + 1)...] {
            if word == "(" { continue }
            guard word.hasPrefix("'"), word.hasSuffix("'"), word.count > 2 else { break }
            names.insert(word.dropFirst().dropLast().lowercased())
        }
        return names
    }
}
