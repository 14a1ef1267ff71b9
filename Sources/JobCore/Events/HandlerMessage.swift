import FoundationEssentials

/// A message from the daemon to the interpreter: one JSON object per line.
enum HandlerRequest: Sendable {
    /// The first message: run the script. `word` marks the daemon's lines in the report stream.
    case load(EventConfiguration, number: Int, word: String)
    /// Call a handler.
    case event(EventName, number: Int, EventJob?)
    /// The answer to a ``HandlerMessage/Call``, and an error for the report.
    case answer(Int64, error: String? = nil)

    /// The message as a line.
    func line() throws -> [UInt8] {
        try JSONLine.encode(self) + [UInt8(ascii: "\n")]
    }
}

extension HandlerRequest: Encodable {
    private enum Key: String, CodingKey {
        case word, script, daemon, event, number, job, levels, answer, error
    }

    func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        switch self {
        case .load(let configuration, let number, let word):
            try fields.encode(number, forKey: .number)
            try fields.encode(word, forKey: .word)
            try fields.encode(configuration.script.string, forKey: .script)
            let daemon = configuration.daemon
            try fields.encode(
                [
                    "Name": daemon.name, "ConfigFile": daemon.configFile, "WorkingDir": daemon.workingDirectory,
                    "Version": daemon.version,
                ], forKey: .daemon)
        case .event(let event, let number, let job):
            try fields.encode(event, forKey: .event)
            try fields.encode(number, forKey: .number)
            guard let job else { return }
            try fields.encode(job.levels, forKey: .levels)
            try encode(job, into: fields.nestedContainer(keyedBy: JobAttribute.self, forKey: .job))
        case .answer(let value, let error):
            try fields.encode(value, forKey: .answer)
            try fields.encodeIfPresent(error, forKey: .error)
        }
    }

    /// The names of the attributes in handlers.
    private enum JobAttribute: String, CodingKey {
        case type = "Type"
        case number = "JobId"
        case client = "Client"
        case volumes = "NumVols"
        case pool = "Pool"
        case storage = "Storage"
        case catalog = "Catalog"
        case mediaType = "MediaType"
        case name = "Job"
        case uniqueName = "JobName"
        case status = "JobStatus"
        case catalogResource = "CatalogRes"
        case volumeName = "VolumeName"
        case priority = "Priority"
        case level = "Level"
    }

    private func encode(_ job: EventJob, into container: KeyedEncodingContainer<JobAttribute>) throws {
        var fields = container
        try fields.encode(job.job.type.rawValue, forKey: .type)
        try fields.encode(job.id.number, forKey: .number)
        try fields.encode(job.job.client, forKey: .client)
        try fields.encode(job.volumes, forKey: .volumes)
        try fields.encode(job.pool, forKey: .pool)
        try fields.encode(job.storage, forKey: .storage)
        try fields.encode(job.catalog, forKey: .catalog)
        try fields.encode(job.mediaType, forKey: .mediaType)
        try fields.encode(job.job.name, forKey: .name)
        try fields.encode(job.job.uniqueName, forKey: .uniqueName)
        try fields.encode(job.status.letter, forKey: .status)
        try fields.encode(job.volumeName ?? "", forKey: .volumeName)
        try fields.encode(job.job.priority, forKey: .priority)
        try fields.encode(job.job.level, forKey: .level)
        var tuple = fields.nestedUnkeyedContainer(forKey: .catalogResource)
        let resource = job.catalogResource
        for text in [resource.base, resource.address, resource.bindDN, "redacted", resource.socket] {
            try tuple.encode(text)
        }
        try tuple.encode(resource.port)
        try tuple.encode(resource.vendor)
    }
}

/// A message from the interpreter to the daemon: one JSON object per line.
enum HandlerMessage: Hashable, Sendable {
    /// A request of a running handler.
    enum Call: Hashable, Sendable {
        case run(command: String)
        case cancel(JobID)
        case volumeExists(name: String)
    }

    /// The result of an event, or of loading the script.
    struct Reply: Hashable, Sendable {
        var effect: EventEffect
        /// If the handler failed, the last line of the traceback; if the script could not be loaded, all of it.
        var error: String?
        /// The events of this job that have a handler.
        var jobEvents: Set<EventName>
        /// The events of the daemon that have a handler.
        var daemonEvents: Set<EventName>
    }

    case call(Call)
    case done(number: Int, Reply)

    /// - Throws: if the line is not a message, which means that other code has written to the pipe.
    init(parsing line: some Collection<UInt8>) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(line))
    }
}

extension HandlerMessage: Decodable {
    private enum Key: String, CodingKey {
        case call, argument, done, priority, level, volume, error, handlers, events
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        guard let name = try fields.decodeIfPresent(String.self, forKey: .call) else {
            self = .done(
                number: try fields.decode(Int.self, forKey: .done),
                Reply(
                    effect: EventEffect(
                        priority: try fields.decodeIfPresent(Int.self, forKey: .priority),
                        level: try fields.decodeIfPresent(String.self, forKey: .level),
                        volumeName: try fields.decodeIfPresent(String.self, forKey: .volume)),
                    error: try fields.decodeIfPresent(String.self, forKey: .error),
                    jobEvents: try fields.decodeIfPresent(Set<EventName>.self, forKey: .handlers) ?? [],
                    daemonEvents: try fields.decode(Set<EventName>.self, forKey: .events)))
            return
        }
        switch name {
        case "run": self = .call(.run(command: try fields.decode(String.self, forKey: .argument)))
        case "cancel": self = .call(.cancel(JobID(try fields.decode(UInt64.self, forKey: .argument))))
        case "volume": self = .call(.volumeExists(name: try fields.decode(String.self, forKey: .argument)))
        default:
            throw DecodingError.dataCorruptedError(forKey: .call, in: fields, debugDescription: "unknown call")
        }
    }
}
