import LDAP

/// The configuration (slapd-config(5)) of the database that contains the accounts.
struct ServerConfiguration: Hashable {
    /// The size limit of searches.
    enum Limit: Hashable {
        case unlimited
        case entries(Int)
        /// Not decidable by the DN alone, with the reason.
        case undecided(String)
    }

    /// Attributes with an equality index, in lower case.
    let indexed: Set<String>
    /// The suffixes of subordinate databases whose changes Content Sync at this one does not report, because the overlay syncprov does not follow
    /// glue, which is the last one by default.
    let missedBySync: [String]
    private let limits: [String]
    private let sizeLimits: [String]
    private let rootDN: String?

    static let base = "cn=config"
    static let filter = Filter.or(
        ["olcDatabaseConfig", "olcGlobal", "olcOverlayConfig"].map { .equal("objectClass", AttributeValue($0)) })
    static let attributes: [AttributeName] = [
        "olcDatabase", "olcOverlay", "olcSubordinate", "olcSuffix", "olcDbIndex", "olcLimits", "olcSizeLimit",
        "olcRootDN",
    ]

    /// - Parameters:
    ///   - entries: of cn=config.
    ///   - base: an entry of the database.
    /// - Returns: nil: no visible database contains it.
    init?(_ entries: [Entry], holding base: DN) {
        func depth(_ entry: Entry) -> Int? {
            entry["olcSuffix"].compactMap { value in
                guard let suffix = value.text.flatMap({ try? DN(parsing: $0) }) else { return nil }
                return base == suffix || base.isDescendant(of: suffix) ? suffix.rdns.count : nil
            }.max()
        }
        guard let database = entries.filter({ depth($0) != nil }).max(by: { (depth($0) ?? 0) < (depth($1) ?? 0) })
        else { return nil }
        missedBySync = Self.missedBySync(entries, database, below: base)
        indexed = Self.indexed(database["olcDbIndex"].compactMap(\.text))
        limits = Self.ordered(database["olcLimits"].compactMap(\.text))
        // The limit of the frontend is the default of all databases.
        let frontend = entries.filter { $0.text("olcDatabase")?.hasSuffix("frontend") == true || $0.dn.rdns.count == 1 }
        let all = ([database] + frontend).map { $0["olcSizeLimit"].compactMap(\.text) }
        sizeLimits = all.first { !$0.isEmpty } ?? []
        rootDN = database.text("olcRootDN")
    }

    // MARK: - Content Sync

    private static func missedBySync(_ entries: [Entry], _ database: Entry, below base: DN) -> [String] {
        let overlays = entries.filter { $0.dn.parent == database.dn }.flatMap { $0["olcOverlay"].compactMap(\.text) }
        let order = ordered(overlays).map { $0.lowercased() }
        guard let sync = order.firstIndex(of: "syncprov"), !order[..<sync].contains("glue") else { return [] }
        return entries.filter { !["", "FALSE"].contains($0.text("olcSubordinate")?.uppercased() ?? "") }
            .flatMap { $0["olcSuffix"].compactMap(\.text) }
            .filter { (try? DN(parsing: $0))?.isDescendant(of: base) ?? false }
    }

    // MARK: - Indexes

    /// `objectClass,entryUUID eq`, `default pres,eq`, or only names, which have the default kinds.
    private static func indexed(_ values: [String]) -> Set<String> {
        let lines = values.map { words($0) }
        func kinds(_ word: String?) -> [Substring] { word?.lowercased().split(separator: ",") ?? [] }
        let usual = lines.first { $0.first?.lowercased() == "default" }.map { kinds($0.count > 1 ? $0[1] : nil) } ?? []
        var indexed: Set<String> = []
        for line in lines where line.first?.lowercased() != "default" {
            guard let names = line.first, (line.count > 1 ? kinds(line[1]) : usual).contains("eq") else { continue }
            indexed.formUnion(names.lowercased().split(separator: ",").map(String.init))
        }
        return indexed
    }

    // MARK: - Limits

    /// - Parameter identity: the DN of the client; empty: anonymous.
    func limit(of identity: String) -> Limit {
        let dn = identity.isEmpty ? nil : try? DN(parsing: identity)
        if let dn, let rootDN, let root = try? DN(parsing: rootDN), root == dn { return .unlimited }
        var limit = SizeLimit()
        for value in sizeLimits { limit.read(Self.words(value)) }
        for rule in limits {
            let words = Self.words(rule)
            guard let who = words.first else { continue }
            switch Self.matches(who, dn) {
            case nil: return .undecided("the rule \(who)")
            case false?: continue
            case true?:
                limit.read(Array(words.dropFirst()))
                return limit.effective
            }
        }
        return limit.effective
    }

    /// Whether a rule matches a DN; nil: not decidable by the DN alone.
    private static func matches(_ who: String, _ dn: DN?) -> Bool? {
        switch who.lowercased() {
        case "*", "any": return true
        case "anonymous": return dn == nil
        case "users": return dn != nil
        default: break
        }
        guard let separator = who.firstIndex(of: "="), who.lowercased().hasPrefix("dn") else { return nil }
        guard let pattern = try? DN(parsing: String(who[who.index(after: separator)...])) else { return nil }
        guard let dn else { return false }
        switch who[..<separator].lowercased() {
        case "dn", "dn.exact", "dn.base", "dn.self.exact", "dn.self.base": return dn == pattern
        case "dn.one", "dn.onelevel": return dn.parent == pattern
        case "dn.sub", "dn.subtree": return dn == pattern || dn.isDescendant(of: pattern)
        case "dn.children": return dn.isDescendant(of: pattern)
        default: return nil
        }
    }

    /// The limits of slapd.conf(5) for searches that request no limit themselves, with and without pages.
    private struct SizeLimit {
        /// nil: none.
        private var soft: Int? = 500
        /// The text; empty: the soft limit.
        private var hard = ""
        private var pages = ""

        mutating func read(_ words: [String]) {
            for word in words {
                let parts = word.split(separator: "=", maxSplits: 1).map { $0.lowercased() }
                switch (parts.first ?? "", parts.last ?? "") {
                case ("size", let value): (soft, hard) = (Self.number(value), "")
                case ("size.soft", let value): soft = Self.number(value)
                case ("size.hard", let value): hard = value == "soft" ? "" : value
                case ("size.prtotal", let value): pages = value == "hard" ? "" : value
                case (let value, _) where parts.count == 1 && (value == "unlimited" || Int(value) != nil):
                    (soft, hard) = (Self.number(value), "")
                default: break
                }
            }
        }

        var effective: Limit {
            let all = hard.isEmpty ? soft : Self.number(hard)
            let paged = pages.isEmpty ? all : pages == "disabled" ? 0 : Self.number(pages)
            guard let least = [soft, paged].compactMap(\.self).min() else { return .unlimited }
            return .entries(least)
        }

        private static func number(_ text: String) -> Int? {
            // `none` and -1 mean `unlimited`.
            Int(text).flatMap { $0 < 0 ? nil : $0 }
        }
    }

    // MARK: - Words

    /// Sorted by their prefixes `{0}`, without prefixes.
    private static func ordered(_ values: [String]) -> [String] {
        values.map { value -> (Int, String) in
            guard value.hasPrefix("{"), let end = value.firstIndex(of: "}"),
                let place = Int(value[value.index(after: value.startIndex)..<end])
            else { return (.max, value) }
            return (place, String(value[value.index(after: end)...]))
        }.sorted { $0.0 < $1.0 }.map(\.1)
    }

    /// Split at blanks outside quotes; quotes are removed.
    private static func words(_ text: String) -> [String] {
        var words = [""]
        var isQuoted = false
        for character in text {
            if character == "\"" {
                isQuoted.toggle()
            } else if character.isWhitespace, !isQuoted {
                words.append("")
            } else {
                words[words.count - 1].append(character)
            }
        }
        return words.filter { !$0.isEmpty }
    }
}

/// The attributes and classes of a server, from the subschema entry (RFC 4512, section 4.2).
struct ServerSchema: Hashable {
    /// The names of each attribute, in lower case.
    private let attributes: [Set<String>]
    private let classes: Set<String>

    static let attributes: [AttributeName] = ["attributeTypes", "objectClasses"]

    /// - Returns: nil: the entry contains no attributes.
    init?(_ subschema: Entry) {
        func names(_ name: AttributeName) -> [Set<String>] { subschema[name].compactMap(\.text).map(Self.names) }
        attributes = names("attributeTypes")
        classes = Set(names("objectClasses").joined())
        if attributes.isEmpty { return nil }
    }

    /// All names of an attribute, in lower case; nil: unknown to the server.
    func names(of attribute: AttributeName) -> Set<String>? {
        let name = attribute.spelling.split(separator: ";").first?.lowercased() ?? ""
        return attributes.first { $0.contains(name) }
    }

    func knows(class name: String) -> Bool { classes.contains(name.lowercased()) }

    /// `( 1.2.3 NAME 'a' … )` or `( 1.2.3 NAME ( 'a' 'b' ) … )`; the OID counts as a name.
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
