package import JobCore
package import SystemPackage

/// The second step of two: the value of every setting that is set.
///
/// Where a value could not be read, the default counts and `errors` names it, so that checks across settings can still be made and all errors
/// are found in one pass.
package struct Settings: Sendable {
    private struct Entry: Sendable {
        let declaration: SettingDeclaration
        let label: String?
        let value: SettingValue
    }

    private var entries: [SettingID: Entry] = [:]
    private var places: [SettingID: SettingPlace] = [:]
    private var shown: [SettingID: String] = [:]
    private var failed: Set<SettingID> = []
    private let labels: [String: [String]]
    private let sectionPlaces: [SettingID: SettingPlace]
    /// In the order of the files.
    package private(set) var warnings: [SettingsProblem]
    /// They forbid the use of these settings; in the order of the files.
    package private(set) var errors: [SettingsProblem]
    /// Whether a whole file could not be read: then it is not known what is missing.
    package let lacksFile: Bool

    /// Reads settings from their files, the systemd credentials and the environment. All errors are collected; nothing is thrown.
    ///
    /// - Parameters:
    ///   - schema: what the files may hold.
    ///   - files: the global file before the service file: the later one wins.
    ///   - environment: `PROV_…` variables win over the files; `CREDENTIALS_DIRECTORY` names systemd's credentials, which
    ///     come between the two.
    package init(_ schema: SettingsSchema, files: [FilePath], environment: [String: String]) {
        var raw = RawSettings(schema: schema)
        raw.read(files: files, environment: environment)
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
                errors.append(entry.problem(.error, error.reason, hint: error.hint))
            }
        }
        warnings.sort { $0.place.isBefore($1.place) }
        errors.sort { $0.place.isBefore($1.place) }
    }

    /// A section with its values, the defaults where they are not set.
    ///
    /// - Parameter label: for a section with labels, which one.
    package subscript<Section: SettingsSection>(_ section: Section.Type, label label: String? = nil) -> Section {
        var values = Section()
        for key in Section.keys {
            if let entry = entries[id(key.declaration, label)] { key.set(entry.value, in: &values) }
        }
        return values
    }

    /// The labels of a section that there may be many of, in the order in which they were written.
    package func labels<Section: SettingsSection>(of section: Section.Type) -> [String] {
        labels[Section.section.title.lowercased(), default: []]
    }

    /// `[Section] KEY` of every setting whose value is not what it is in `old`, sorted. Never holds a value.
    ///
    /// - Parameter isRestartNeeded: only settings that take effect at the daemon's next start.
    package func changes(since old: Settings, isRestartNeeded: Bool = false) -> [String] {
        entries.merging(old.entries) { own, _ in own }.compactMap { id, entry in
            let declaration = entry.declaration
            if isRestartNeeded, !declaration.needsRestart { return nil }
            let new: SettingValue = entries[id]?.value ?? declaration.defaultValue
            let old: SettingValue = old.entries[id]?.value ?? declaration.defaultValue
            return AnyHashable(new) == AnyHashable(old)
                ? nil : "[\(declaration.section.filled(with: entry.label))] \(declaration.name)"
        }.sorted()
    }

    /// Whether any key of a section with a label is set, even wrongly.
    package func isSet<Section: SettingsSection>(_ section: Section.Type, label: String) -> Bool {
        Section.keys.contains { places[id($0.declaration, label)] != nil }
    }

    /// Whether the setting has an error already, so that its default counts.
    package func isFaulty<Section: SettingsSection>(_ property: PartialKeyPath<Section>) -> Bool {
        declaration(of: property).map { failed.contains(id($0, nil)) } ?? false
    }

    /// The errors that keep a setting from being known: those of whole files, else its own.
    package func errors<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> [SettingsProblem] {
        errors.filter { error in
            if lacksFile {
                if case .wholeFile = error.place { true } else { false }
            } else {
                error.section == Section.section.title && error.key == declaration(of: property)?.name
            }
        }
    }

    /// Where the setting was written.
    package func place<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> SettingPlace {
        declaration(of: property).flatMap { places[id($0, nil)] } ?? .nowhere
    }

    /// The file that a secret was read from; `nil` where the settings hold the secret itself.
    package func file<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> String? {
        guard let companion = declaration(of: property)?.companion, let file = shown[id(companion, nil)], !file.isEmpty
        else { return nil }
        return file
    }

    /// Adds an error about a section with a label as a whole.
    package mutating func refuse<Section: SettingsSection>(
        _ section: Section.Type, label: String, _ reason: String, hint: String
    ) {
        add(.error, Section.self, nil, label, reason, hint: hint)
    }

    /// Adds an error about a setting, as a check across settings finds it. A setting that could not be read has its error already and gets no
    /// second one.
    package mutating func refuse<Section: SettingsSection>(
        _ property: PartialKeyPath<Section>, label: String? = nil, _ reason: String, hint: String
    ) {
        let declaration = declaration(of: property)
        if let declaration, failed.contains(id(declaration, label)) { return }
        add(.error, Section.self, declaration, label, reason, hint: hint)
    }

    /// Adds a warning about a setting.
    package mutating func warn<Section: SettingsSection>(
        _ property: PartialKeyPath<Section>, label: String? = nil, _ reason: String, hint: String
    ) {
        add(.warning, Section.self, declaration(of: property), label, reason, hint: hint)
    }

    private mutating func add<Section: SettingsSection>(
        _ severity: SettingsProblem.Severity, _ section: Section.Type, _ declaration: SettingDeclaration?,
        _ label: String?, _ reason: String, hint: String
    ) {
        let key = declaration.map { id($0, label) }
        let problem = SettingsProblem(
            severity,
            place: key.flatMap { places[$0] } ?? sectionPlaces[SettingID(Section.section, label: label, key: "")]
                ?? .nowhere,
            section: Section.section.filled(with: label), key: declaration?.name, value: key.flatMap { shown[$0] },
            reason: reason, hint: hint)
        switch severity {
        case .error:
            errors.append(problem)
            errors.sort { $0.place.isBefore($1.place) }
        case .warning:
            warnings.append(problem)
            warnings.sort { $0.place.isBefore($1.place) }
        }
    }

    private func declaration<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> SettingDeclaration? {
        Section.keys.first { $0.property.map { $0 as PartialKeyPath<Section> } == property }?.declaration
    }

    private func id(_ declaration: SettingDeclaration, _ label: String?) -> SettingID {
        SettingID(declaration.section, label: label, key: declaration.name)
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
