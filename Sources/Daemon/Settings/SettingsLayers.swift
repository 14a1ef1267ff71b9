import Glibc
import JobCore
import SystemPackage

// Reads the text of each setting, without interpreting it.
//
// Layers override earlier ones: files in their order, then credentials, then the environment. A layer that sets a secret or the key for its file
// overrides both.

extension Settings {
    mutating func readLayers(files: [FilePath], environment: [String: String]) {
        for path in files {
            do throws(SettingValueError) {
                let file = try SettingsFile(reading: path)
                let holdsSecret = read(file.bytes, of: path.string)
                if holdsSecret, file.isOpenToOthers {
                    problems.append(
                        .unprotected(path, reason: "the file contains a password and other users can read or write it"))
                }
            } catch {
                lacksFile = true
                refuse(error, at: .wholeFile(path.string))
            }
        }
        if let directory = environment["CREDENTIALS_DIRECTORY"], !directory.isEmpty {
            add(credentials: FilePath(directory))
        }
        add(environment: environment)
        readSecretFiles()
    }

    private mutating func readSecretFiles() {
        for (secret, file) in schema.secrets {
            guard let entry = entries[file.id(nil)], !entry.text.isEmpty else { continue }
            guard entry.text.hasPrefix("/") else {
                faulty.insert(secret.id(nil))
                continue
            }
            do throws(SettingValueError) {
                let path = FilePath(entry.text)
                let file = try SettingsFile(reading: path)
                if file.isOpenToOthers {
                    problems.append(
                        .unprotected(path, reason: "other users can read or write this file with \(secret.name)"))
                }
                let text = try file.secretText()
                guard !text.isEmpty else {
                    throw SettingValueError("the file is empty", hint: "write the secret into it")
                }
                entries[secret.id(nil)] = Entry(declaration: secret, label: nil, text: text, place: entry.place)
            } catch {
                faulty.insert(secret.id(nil))
                problems.append(entry.problem(.error, error.reason, hint: error.hint))
            }
        }
    }

    /// Adds a layer over the earlier ones.
    private mutating func add(_ layer: [String: Entry]) {
        var layer = layer
        for (secret, file) in schema.secrets {
            let ids = [secret.id(nil), file.id(nil)]
            guard ids.contains(where: { layer[$0] != nil }) else { continue }
            ids.forEach { entries[$0] = nil }
            guard let own = layer[ids[0]], let named = layer[ids[1]], !own.text.isEmpty, !named.text.isEmpty else {
                continue
            }
            problems.append(
                named.problem(.error, "\(secret.name) is set as well (\(own.place))", hint: "keep one of the two"))
            layer[ids[0]] = nil
        }
        entries.merge(layer) { _, new in new }
    }

    private mutating func refuse(_ error: SettingValueError, at place: SettingPlace) {
        problems.append(SettingsProblem(severity: .error, place: place, reason: error.reason, hint: error.hint))
    }

    private mutating func note(label: String, of section: SectionName, at place: SettingPlace) {
        if !labels(of: section).contains(where: { $0.isSameName(as: label) }) {
            labelled.append((section, label, place))
        }
    }
}

// MARK: - Files

extension Settings {
    /// Adds the layer of a file. Unknown and retired names become warnings; all problems are found.
    ///
    /// - Parameters:
    ///   - bytes: UTF-8, with or without a byte order mark, lines ended by LF or CRLF.
    ///   - source: the file's name.
    /// - Returns: whether the file contains a secret.
    mutating func read(_ bytes: [UInt8], of source: String) -> Bool {
        var layer: [String: Entry] = [:]
        var holdsSecret = false
        var isInSection = false
        // nil: its keys are ignored.
        var section: (declaration: SettingsSchema.Section, label: String?)?
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (offset, line) in lines.enumerated() {
            let place = SettingPlace.file(source, line: offset + 1)
            let hasMark = offset == 0 && line.starts(with: [0xEF, 0xBB, 0xBF])
            do throws(SettingValueError) {
                switch try INILine(parsing: hasMark ? line.dropFirst(3) : line) {
                case nil: continue
                case .section(let title)?:
                    (isInSection, section) = (true, nil)
                    guard let title else {
                        throw SettingValueError(
                            "the section is not written as [Section]",
                            hint: "write the name between [ and ], alone on its line")
                    }
                    section = begin(title, at: place)
                case .item(let key, let value)?:
                    guard isInSection else {
                        throw SettingValueError(
                            "the key \(key) is before the first section", hint: "write a line [Section] above it")
                    }
                    guard let (declaration, label) = section else { continue }
                    if add(key, value, at: place, in: declaration, label: label, into: &layer) { holdsSecret = true }
                }
            } catch { refuse(error, at: place) }
        }
        add(layer)
        return holdsSecret
    }

    /// - Returns: nil for a section whose keys are ignored.
    private mutating func begin(
        _ title: String, at place: SettingPlace
    ) -> (declaration: SettingsSchema.Section, label: String?)? {
        guard let (section, label) = schema.section(titled: title) else {
            refuseUnknown(title, at: place)
            return nil
        }
        if let label { note(label: label, of: section.name, at: place) }
        guard let replacement = section.replacement else { return (section, label) }
        warn(place, title, "no longer used: \(replacement)")
        return nil
    }

    private mutating func add(
        _ key: String, _ value: String, at place: SettingPlace, in section: SettingsSchema.Section, label: String?,
        into layer: inout [String: Entry]
    ) -> Bool {
        let title = section.name.filled(with: label)
        if let retired = section.retired.first(where: { $0.name.isSameName(as: key) }) {
            warn(place, title, key: key, "no longer used: \(retired.replacement)", hint: "take the line out")
            return retired.isSecret && !value.isEmpty
        }
        guard let declaration = section.key(key) else {
            let known = section.keys.filter(\.isListed).map(\.name) + section.retired.map(\.name)
            let owners = schema.sections.filter { $0.key(key) != nil }.map { "[\($0.name)]" }
            let hint =
                owners.isEmpty
                ? section.unknownKey?.hint ?? NearestName.of(key, among: known).map { "did you mean \($0)?" }
                    ?? "look it up in prov-backup-rsnapshot.conf(5), SECTIONS, or take the line out"
                : "move the line to \(owners.joined(separator: " or "))"
            problems.append(
                SettingsProblem(
                    severity: section.unknownKey == nil ? .warning : .error, place: place, section: title, key: key,
                    reason: section.unknownKey?.reason ?? "there is no such key in this section", hint: hint))
            return false
        }
        let entry = Entry(declaration: declaration, label: label, text: value, place: place)
        if let earlier = layer[entry.id] {
            warn(
                place, title, key: declaration.name,
                "the key occurs twice (first at \(earlier.place)): the last one counts",
                hint: "keep one of the two lines")
        }
        layer[entry.id] = entry
        return declaration.isSecret && !value.isEmpty
    }

    private mutating func refuseUnknown(_ title: String, at place: SettingPlace) {
        let firstWord = title.split(separator: " ").first.map(String.init) ?? title
        if let plain = schema.sections.first(where: { $0.name.title.isSameName(as: title) }) {
            return warn(
                place, title, "the section needs a name; its keys are ignored",
                hint: "write [\(plain.name)]")
        }
        let titles = schema.sections.map(\.name.title)
        let nearest = NearestName.of(title, among: titles) ?? NearestName.of(firstWord, among: titles)
        let name = schema.sections.first { $0.name.title == nearest }?.name.description
        warn(
            place, title, "there is no such section; its keys are ignored",
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
        var layer: [String: Entry] = [:]
        for (secret, _) in schema.secrets {
            let path = directory.appending(secret.credentialName)
            guard access(path.string, F_OK) == 0 || errno != ENOENT && errno != ENOTDIR else { continue }
            let place = SettingPlace.credential(path.string)
            do throws(SettingValueError) {
                // The mode of a credential contains the mask of systemd's access list, so it is not checked.
                let text = try SettingsFile(reading: path).secretText()
                let entry = Entry(declaration: secret, label: nil, text: text, place: place)
                layer[entry.id] = entry
            } catch { refuse(error, at: place) }
        }
        add(layer)
    }

    /// Adds the layer of the environment.
    ///
    /// `PROV_<SECTION>_<KEY>`; in a labelled section `PROV_<SECTION>_<LABEL>_<KEY>`. A label of the files is matched by its letters and digits only;
    /// any other label creates a section with this label in lower case.
    private mutating func add(environment: [String: String]) {
        var layer: [String: Entry] = [:]
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
                let label = labels(of: section.name).first { SettingDeclaration.environmentWord($0) == word }
                return (key, label ?? word.lowercased())
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
