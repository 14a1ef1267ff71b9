import LDAP

/// What an OpenLDAP server's cn=config says of the database that holds the accounts, as far as it may be read (slapd-config(5)).
struct ServerConfiguration: Hashable {
    /// How many entries a search may give.
    enum Limit: Hashable {
        case unlimited
        case entries(Int)
        /// The rules need more than a DN to be decided; why.
        case undecided(String)
    }

    /// The attributes with an index for equality, in lower case.
    let indexed: Set<String>
    /// The suffixes of databases below this one whose changes Content Sync at this one does not tell: the overlay syncprov has to follow glue,
    /// and by itself glue is the last one.
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
    ///   - entries: those of cn=config.
    ///   - base: an entry of the database that is meant.
    /// - Returns: nil when none of the databases that can be seen holds it.
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
        // A database without a limit of its own has the frontend's, which is that of all.
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

    /// `objectClass,entryUUID eq`, `default pres,eq`, or names alone, which have the default's kinds.
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

    /// - Parameter identity: as the server knows us: a DN, or empty.
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

    /// Whether a rule is about a DN; nil when a DN alone does not tell.
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

    /// The limits of slapd.conf(5) that a search meets which asks for no limit itself, at once or page by page.
    private struct SizeLimit {
        /// nil: none.
        private var soft: Int? = 500
        /// As it is written; empty: the soft one.
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
            // `none` and -1 say the same as `unlimited`.
            Int(text).flatMap { $0 < 0 ? nil : $0 }
        }
    }

    // MARK: - Words

    /// In the order of their `{0}`, without them.
    private static func ordered(_ values: [String]) -> [String] {
        values.map { value -> (Int, String) in
            guard value.hasPrefix("{"), let end = value.firstIndex(of: "}"),
                let place = Int(value[value.index(after: value.startIndex)..<end])
            else { return (.max, value) }
            return (place, String(value[value.index(after: end)...]))
        }.sorted { $0.0 < $1.0 }.map(\.1)
    }

    /// Split at blanks outside quotes, without the quotes.
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
