import JobCore
import SystemPackage

// Reads the text of each setting, without interpreting it.
//
// Layers override earlier ones: files in their order, then credentials, then the environment. A layer that sets a secret or the key for its file
// overrides both.

extension Settings {
    mutating func readLayers(files: [FilePath], environment: [String: String]) {
        for path in files {
            do throws(SettingsFile.Unreadable) {
                let file = try SettingsFile(reading: path)
                let holdsSecret = add(INIDocument(parsing: file.bytes, source: path.string))
                if holdsSecret, file.isOpenToOthers {
                    problems.append(
                        .unprotected(path, reason: "the file contains a password and other users can read or write it"))
                }
            } catch {
                lacksFile = true
                problems.append(
                    SettingsProblem(
                        severity: .error, place: .wholeFile(path.string), reason: error.reason, hint: error.hint))
            }
        }
        if let directory = environment["CREDENTIALS_DIRECTORY"], !directory.isEmpty {
            add(credentials: FilePath(directory))
        }
        add(environment: environment)
        readSecretFiles()
    }

    private mutating func readSecretFiles() {
        for secret in schema.sections.flatMap(\.keys) where secret.isSecret {
            guard let companion = secret.companion else { continue }
            let labels: [String?] =
                secret.section.placeholder == nil ? [nil] : labels[secret.section.title.lowercased(), default: []]
            for label in labels {
                guard let entry = entries[companion.id(label)], !entry.text.isEmpty else { continue }
                guard entry.text.hasPrefix("/") else {
                    faulty.insert(secret.id(label))
                    continue
                }
                do throws(SettingsFile.Unreadable) {
                    let path = FilePath(entry.text)
                    let file = try SettingsFile(reading: path)
                    if file.isOpenToOthers {
                        problems.append(
                            .unprotected(path, reason: "other users can read or write this file with \(secret.name)"))
                    }
                    guard let text = file.secretText else { throw .notText }
                    guard !text.isEmpty else { throw .empty }
                    let own = Entry(declaration: secret, label: label, text: text, place: entry.place)
                    entries[own.id] = own
                } catch {
                    faulty.insert(secret.id(label))
                    problems.append(entry.problem(.error, error.reason, hint: error.hint))
                }
            }
        }
    }

    /// Adds a layer over the earlier ones.
    private mutating func add(_ layer: [SettingID: Entry]) {
        for entry in layer.values {
            for secret in schema.sections.flatMap(\.keys) where secret.isSecret {
                let ids = [secret, secret.companion].compactMap { $0?.id(entry.label) }
                if ids.contains(entry.id) { ids.forEach { entries[$0] = nil } }
            }
        }
        entries.merge(layer) { _, new in new }
        for (id, entry) in layer where entry.declaration.isSecret && !entry.text.isEmpty {
            guard let file = entry.declaration.companion.flatMap({ layer[$0.id(entry.label)] }), !file.text.isEmpty
            else { continue }
            problems.append(
                file.problem(
                    .error, "\(entry.declaration.name) is set as well (\(entry.place))", hint: "keep one of the two"))
            entries[id] = nil
        }
    }

    private mutating func note(label: String, of section: SectionName, at place: SettingPlace) {
        let id = SettingID(section, label: label, key: "")
        if sectionPlaces[id] == nil { sectionPlaces[id] = place }
        let known = labels[section.title.lowercased(), default: []]
        if !known.contains(where: { $0.isSameName(as: label) }) {
            labels[section.title.lowercased(), default: []].append(label)
        }
    }
}

// MARK: - Files

extension Settings {
    /// Adds the layer of a file. Unknown and retired names become warnings.
    ///
    /// - Returns: whether the file contains a secret.
    private mutating func add(_ document: INIDocument) -> Bool {
        problems += document.problems
        var layer: [SettingID: Entry] = [:]
        var holdsSecret = false
        for written in document.sections where !written.title.isEmpty {
            guard let (section, label) = schema.section(titled: written.title) else {
                refuseUnknown(written, in: document)
                continue
            }
            let place = SettingPlace.file(document.source, line: written.line)
            if let label { note(label: label, of: section.name, at: place) }
            if let replacement = section.replacement {
                warn(place, written.title, "no longer used: \(replacement)")
                continue
            }
            for item in written.items where add(item, in: section, label: label, of: document, into: &layer) {
                holdsSecret = true
            }
        }
        add(layer)
        return holdsSecret
    }

    private mutating func add(
        _ item: INIDocument.Item, in section: SettingsSchema.Section, label: String?, of document: INIDocument,
        into layer: inout [SettingID: Entry]
    ) -> Bool {
        let place = SettingPlace.file(document.source, line: item.line)
        let title = section.name.filled(with: label)
        if let retired = section.retired.first(where: { $0.name.isSameName(as: item.key) }) {
            warn(place, title, key: item.key, "no longer used: \(retired.replacement)", hint: "take the line out")
            return retired.isSecret && !item.value.isEmpty
        }
        guard let declaration = section.key(item.key) else {
            let known = section.keys.filter(\.isListed).map(\.name) + section.retired.map(\.name)
            let owners = schema.sections.filter { $0.key(item.key) != nil }.map { "[\($0.name)]" }
            let hint =
                owners.isEmpty
                ? NearestName.of(item.key, among: known).map { "did you mean \($0)?" }
                    ?? "look it up in prov-backup-rsnapshot.conf(5), SECTIONS, or take the line out"
                : "move the line to \(owners.joined(separator: " or "))"
            warn(place, title, key: item.key, "there is no such key in this section", hint: hint)
            return false
        }
        let entry = Entry(declaration: declaration, label: label, text: item.value, place: place)
        if let earlier = layer[entry.id] {
            warn(
                place, title, key: declaration.name,
                "the key occurs twice (first at \(earlier.place)): the last one counts",
                hint: "keep one of the two lines")
        }
        layer[entry.id] = entry
        return declaration.isSecret && !item.value.isEmpty
    }

    private mutating func refuseUnknown(_ written: INIDocument.Section, in document: INIDocument) {
        let place = SettingPlace.file(document.source, line: written.line)
        let firstWord = written.title.split(separator: " ").first.map(String.init) ?? written.title
        if let plain = schema.sections.first(where: { $0.name.title.isSameName(as: written.title) }) {
            return warn(
                place, written.title, "the section needs a name; its keys are ignored",
                hint: "write [\(plain.name)]")
        }
        let titles = schema.sections.map(\.name.title)
        let nearest = NearestName.of(written.title, among: titles) ?? NearestName.of(firstWord, among: titles)
        let name = schema.sections.first { $0.name.title == nearest }?.name.description
        warn(
            place, written.title, "there is no such section; its keys are ignored",
            hint: name.map { "did you mean [\($0)]?" }
                ?? "look it up in prov-backup-rsnapshot.conf(5), SECTIONS, or take the section out")
    }

    private mutating func warn(
        _ place: SettingPlace, _ section: String, key: String? = nil, _ reason: String, hint: String = ""
    ) {
        problems.append(
            SettingsProblem(severity: .warning, place: place, section: section, key: key, reason: reason, hint: hint))
    }
}

// MARK: - Credentials and environment

extension Settings {
    private mutating func add(credentials directory: FilePath) {
        var layer: [SettingID: Entry] = [:]
        for secret in schema.sections.flatMap(\.keys) where secret.isSecret && secret.section.placeholder == nil {
            let path = directory.appending(secret.credentialName)
            let place = SettingPlace.credential(path.string)
            do throws(SettingsFile.Unreadable) {
                // The mode of a credential contains the mask of systemd's access list, so it is not checked.
                guard let text = try SettingsFile(reading: path).secretText else { throw .notText }
                let entry = Entry(declaration: secret, label: nil, text: text, place: place)
                layer[entry.id] = entry
            } catch  where error.isAbsent {
                continue
            } catch {
                problems.append(
                    SettingsProblem(severity: .error, place: place, reason: error.reason, hint: error.hint))
            }
        }
        add(layer)
    }

    /// Adds the layer of the environment.
    ///
    /// `PROV_<SECTION>_<KEY>`; in a labelled section `PROV_<SECTION>_<LABEL>_<KEY>`. A label of the files is matched by its letters and digits only;
    /// any other label creates a section with this label in lower case.
    private mutating func add(environment: [String: String]) {
        var layer: [SettingID: Entry] = [:]
        for (name, text) in environment.sorted(by: { $0.key < $1.key })
        where name.hasPrefix("PROV_") && !schema.otherVariables.contains(name) {
            guard let (declaration, label) = meaning(ofVariable: name) else {
                refuseUnknown(variable: name)
                continue
            }
            if let label { note(label: label, of: declaration.section, at: .environment(name)) }
            let entry = Entry(
                declaration: declaration, label: label, text: String(text[...].trimmingBlanks),
                place: .environment(name))
            layer[entry.id] = entry
        }
        add(layer)
    }

    private func meaning(ofVariable name: String) -> (SettingDeclaration, label: String?)? {
        for section in schema.sections where section.name.placeholder == nil {
            if let key = section.keys.first(where: { $0.environmentName() == name }) { return (key, nil) }
        }
        for section in schema.sections where section.name.placeholder != nil {
            let prefix = "PROV_\(SettingDeclaration.environmentWord(section.name.title))_"
            guard name.hasPrefix(prefix) else { continue }
            for key in section.keys {
                let suffix = "_\(SettingDeclaration.environmentWord(key.name))"
                guard name.hasSuffix(suffix), name.utf8.count > prefix.utf8.count + suffix.utf8.count else { continue }
                let word = String(name.dropFirst(prefix.count).dropLast(suffix.count))
                let known = labels[section.name.title.lowercased(), default: []]
                return (key, label: known.first { SettingDeclaration.environmentWord($0) == word } ?? word.lowercased())
            }
        }
        return nil
    }

    /// Ignores names without a known section: scripts use other names that begin with PROV_.
    private mutating func refuseUnknown(variable name: String) {
        let sections = schema.sections.filter {
            name.hasPrefix("PROV_\(SettingDeclaration.environmentWord($0.name.title))_")
        }
        guard !sections.isEmpty, sections.allSatisfy({ $0.replacement == nil }) else { return }
        let known = sections.flatMap(\.keys).filter(\.isListed).map {
            $0.environmentName(label: $0.section.placeholder)
        }
        problems.append(
            SettingsProblem(
                severity: .warning, place: .environment(name), reason: "there is no such setting",
                hint: NearestName.of(name, among: known).map { "did you mean \($0)?" } ?? "unset the variable"))
    }
}

extension SettingsProblem {
    fileprivate static func unprotected(_ path: FilePath, reason: String) -> Self {
        SettingsProblem(
            severity: .error, place: .wholeFile(path.string), reason: reason, hint: "run: chmod 600 \(path.shellWord)")
    }
}
