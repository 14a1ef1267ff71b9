/// The second step of two: every declared setting with its typed value.
///
/// Where a value could not be read, the default stands and `errors` names it, so that checks across settings can still be
/// made and everything wrong is found in one pass.
public struct Settings: Sendable {
    private struct Entry: Sendable {
        let declaration: SettingDeclaration
        let label: String?
        let value: any SettingValue
    }

    private var entries: [SettingID: Entry] = [:]
    private var places: [SettingID: SettingPlace] = [:]
    private var shown: [SettingID: String] = [:]
    private var failed: Set<SettingID> = []
    private let labels: [String: [String]]
    private let sectionPlaces: [SettingID: SettingPlace]
    /// What was noticed, in the order of the files.
    public private(set) var warnings: [SettingsProblem]
    /// What forbids the use of these settings, in the order of the files.
    public private(set) var errors: [SettingsProblem]
    /// Whether a whole file could not be read: then nobody knows what is missing.
    public let lacksFile: Bool

    init(_ raw: RawSettings) {
        labels = raw.labels
        sectionPlaces = raw.sectionPlaces
        lacksFile = raw.lacksFile
        failed = raw.faulty
        warnings = raw.problems.filter { $0.severity == .warning }
        errors = raw.problems.filter { $0.severity == .error }
        for (id, entry) in raw.entries {
            places[id] = entry.place
            if !entry.declaration.isSecret { shown[id] = entry.text }
            do throws(SettingValueError) {
                entries[id] = Entry(
                    declaration: entry.declaration, label: entry.label, value: try entry.declaration.parse(entry.text))
            } catch {
                failed.insert(id)
                errors.append(entry.problem(.error, error.reason, cure: error.cure))
            }
        }
        warnings.sort { $0.place.isBefore($1.place) }
        errors.sort { $0.place.isBefore($1.place) }
    }

    /// The value of a setting, its default where it stands nowhere.
    public subscript<Value>(_ key: SettingKey<Value>) -> Value { self[key, nil] }

    /// The value of a setting in a section with labels.
    public subscript<Value>(_ key: SettingKey<Value>, _ label: String?) -> Value {
        (entries[id(key, label)]?.value as? TypedSetting<Value>)?.value ?? key.defaultValue
    }

    /// `[Section] KEY` of every setting whose value is not what it is in `old`, sorted. Never holds a value.
    public func changes(since old: Settings) -> [String] {
        entries.merging(old.entries) { own, _ in own }.compactMap { id, entry in
            let declaration = entry.declaration
            let values = [self, old].map { $0.entries[id]?.value ?? declaration.defaultValue }
            return values[0].isSame(as: values[1])
                ? nil : "[\(declaration.section.filled(with: entry.label))] \(declaration.name)"
        }.sorted()
    }

    /// The labels of a section that there may be many of, in the order in which they were written.
    public func labels(of section: SectionName) -> [String] { labels[section.title.lowercased(), default: []] }

    /// Whether the setting stands somewhere, even empty.
    public func isSet<Value>(_ key: SettingKey<Value>, _ label: String? = nil) -> Bool { places[id(key, label)] != nil }

    /// Whether the setting has an error already, so that its default stands for it.
    public func isFaulty<Value>(_ key: SettingKey<Value>, _ label: String? = nil) -> Bool {
        failed.contains(id(key, label))
    }

    /// Where the setting stands, or else its section where that has a label.
    public func place<Value>(of key: SettingKey<Value>, _ label: String? = nil) -> SettingPlace {
        places[id(key, label)] ?? place(of: key.section, label: label)
    }

    /// The file that a secret was read from; nil where the secret itself stands in the settings.
    public func file<Value>(of key: SettingKey<Value>, _ label: String? = nil) -> String? {
        guard let companion = key.declaration.companion,
            let file = shown[SettingID(key.section, label: label, key: companion.name)], !file.isEmpty
        else { return nil }
        return file
    }

    private func place(of section: SectionName, label: String?) -> SettingPlace {
        sectionPlaces[SettingID(section, label: label, key: "")] ?? .nowhere
    }

    /// Adds an error about a section with a label as a whole.
    public mutating func refuse(_ section: SectionName, label: String, _ reason: String, cure: String) {
        errors.append(
            SettingsProblem(
                .error, place: place(of: section, label: label), section: section.filled(with: label), reason: reason,
                cure: cure))
        errors.sort { $0.place.isBefore($1.place) }
    }

    /// Adds an error about a setting, as a check across settings finds it. A setting that could not be read is
    /// reported already and gets no second error.
    public mutating func refuse<Value>(_ key: SettingKey<Value>, label: String? = nil, _ reason: String, cure: String) {
        guard !failed.contains(id(key, label)) else { return }
        errors.append(problem(.error, key, label, reason, cure: cure))
        errors.sort { $0.place.isBefore($1.place) }
    }

    /// Adds a warning about a setting.
    public mutating func warn<Value>(_ key: SettingKey<Value>, label: String? = nil, _ reason: String, cure: String) {
        warnings.append(problem(.warning, key, label, reason, cure: cure))
        warnings.sort { $0.place.isBefore($1.place) }
    }

    private func problem<Value>(
        _ severity: SettingsProblem.Severity, _ key: SettingKey<Value>, _ label: String?, _ reason: String, cure: String
    ) -> SettingsProblem {
        SettingsProblem(
            severity, place: place(of: key, label), section: key.section.filled(with: label), key: key.name,
            value: shown[id(key, label)], reason: reason, cure: cure)
    }

    private func id<Value>(_ key: SettingKey<Value>, _ label: String?) -> SettingID {
        SettingID(key.section, label: label, key: key.name)
    }
}

extension SettingPlace {
    /// Files first, each by its lines.
    fileprivate func isBefore(_ other: Self) -> Bool { rank < other.rank }

    private var rank: (Int, String, Int) {
        switch self {
        case .wholeFile(let path): (0, path, 0)
        case .file(let path, let line): (0, path, line)
        case .credential(let path): (1, path, 0)
        case .environment(let name): (2, name, 0)
        case .nowhere: (3, "", 0)
        }
    }
}
