{{/* Checks that the schema cannot express, or not with a helpful message: values that are missing or do not fit together.
     All problems are reported at once, one per line. */}}
{{- define "inventory-refresh.validate" -}}
{{- $problems := concat
      (include "inventory-refresh.missing" . | fromJsonArray)
      (include "inventory-refresh.misplacedSecrets" . | fromJsonArray)
      (include "inventory-refresh.misfits" . | fromJsonArray)
      (include "inventory-refresh.podProblems" . | fromJsonArray)
      (include "inventory-refresh.replicaProblems" . | fromJsonArray)
      (include "inventory-refresh.ruleProblems" . | fromJsonArray)
-}}
{{- if $problems -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end }}

{{- define "inventory-refresh.missing" -}}
{{- $problems := list -}}
{{- $config := .Values.config -}}
{{- range $option := list "kafka.bootstrap_servers" "kafka.topics" "oms.base_url" "oms.token_url" -}}
{{- $parts := splitList "." $option -}}
{{- if empty (get (get $config (first $parts)) (last $parts)) -}}
{{- $problems = append $problems (printf "config.%s: must be set" $option) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.avroSchema $config.avro.registry_url $config.avro.schema_file) -}}
{{- $problems = append $problems "config.avro.registry_url: must be set, or avroSchema instead" -}}
{{- end -}}
{{- if not (include "inventory-refresh.secretsDirectories" .) -}}
{{- $problems = append $problems "secrets: set secrets.existing, secrets.externalSecret or secrets.directories: oms__api_key and oms__api_secret must come from secret files" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $problems = append $problems "ingress.hosts: must be set" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $problems = append $problems "httpRoute.parentRefs: must be set" -}}
{{- end -}}
{{- with .Values.secrets.externalSecret -}}
{{- if and .enabled (not .secretStoreRef.name) -}}
{{- $problems = append $problems "secrets.externalSecret.secretStoreRef.name: must be set" -}}
{{- end -}}
{{- if and .enabled (not (or .data .dataFrom)) -}}
{{- $problems = append $problems "secrets.externalSecret: set data or dataFrom, otherwise the Secret is empty" -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/* Many people can read a ConfigMap who must not know a password. */}}
{{- define "inventory-refresh.misplacedSecrets" -}}
{{- $problems := list -}}
{{- $hint := "is a secret: put it into a secret file named" -}}
{{- range $name := list "api_key" "api_secret" "client_key_password" "proxy" -}}
{{- if get $.Values.config.oms $name -}}
{{- $problems = append $problems (printf "config.oms.%s: %s oms__%s (see secrets)" $name $hint $name) -}}
{{- end -}}
{{- end -}}
{{- range $map := list "kafka.properties" "avro.registry" -}}
{{- $parts := splitList "." $map -}}
{{- range $key, $value := index $.Values.config (first $parts) (last $parts) -}}
{{- if regexMatch "password|passphrase|secret$|jaas|user\\.info|auth\\.token|oauthbearer\\.config|key\\.pem" $key -}}
{{- $problems = append $problems (printf "config.%s: %q %s %s__%s (see secrets)" $map $key $hint (replace "." "__" $map) $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "inventory-refresh.misfits" -}}
{{- $problems := list -}}
{{- $kafka := .Values.config.kafka -}}
{{- $properties := $kafka.properties | default dict -}}
{{- $revoke := include "inventory-refresh.seconds" $kafka.revoke_timeout | float64 -}}
{{- $poll := divf (get $properties "max.poll.interval.ms" | default 300000 | float64) 1000 -}}
{{- if or (le $revoke 0.0) (ge $revoke $poll) -}}
{{- $problems = append $problems (printf "config.kafka.revoke_timeout: %v must be more than 0 and less than max.poll.interval.ms (%v s)" $kafka.revoke_timeout $poll) -}}
{{- end -}}
{{- if ge (include "inventory-refresh.seconds" ($kafka.unreachable_timeout | default "30s") | float64) 180.0 -}}
{{- $problems = append $problems (printf "config.kafka.unreachable_timeout: %v must be less than 180 s, after which the liveness probe restarts the pod" $kafka.unreachable_timeout) -}}
{{- end -}}
{{- if hasKey $properties "group.instance.id" -}}
{{- $problems = append $problems "config.kafka.properties: \"group.instance.id\" would be the same in all pods; set staticMembership.enabled instead" -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost$|::1$)" (.Values.config.http.host | default "") -}}
{{- $problems = append $problems (printf "config.http.host: %s cannot be reached by probes from outside the pod; leave it out" .Values.config.http.host) -}}
{{- end -}}
{{- if and .Values.avroSchema (or .Values.config.avro.registry_url .Values.config.avro.schema_file) -}}
{{- $problems = append $problems "avroSchema: must not be set together with config.avro.registry_url or config.avro.schema_file; choose one" -}}
{{- end -}}
{{- if and .Values.caBundle.configMap .Values.caBundle.secret -}}
{{- $problems = append $problems "caBundle: set configMap or secret, not both" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- $problems = append $problems "serviceMonitor, podMonitor: enable only one of the two, otherwise every pod is scraped and counted twice" -}}
{{- end -}}
{{- range $variable := .Values.extraEnv -}}
{{- if eq $variable.name "INVENTORY_REFRESH_SECRETS_DIR" -}}
{{- $problems = append $problems (printf "extraEnv: %s: use secrets.directories instead" $variable.name) -}}
{{- else if regexMatch "^INVENTORY_REFRESH_(CONFIG|HTTP__.*|KAFKA__(BOOTSTRAP_SERVERS|TOPICS|GROUP_ID|REVOKE_TIMEOUT|PROPERTIES__GROUP_INSTANCE_ID))$" $variable.name -}}
{{- $problems = append $problems (printf "extraEnv: %s would bypass a value that the chart uses; set it in config" $variable.name) -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/* Fields of a pod that the chart sets, to the value that sets them. */}}
{{- define "inventory-refresh.podFields" -}}
automountServiceAccountToken: serviceAccount.automount
containers: extraContainers
restartPolicy: ""
enableServiceLinks: ""
securityContext: podSecurityContext
serviceAccountName: serviceAccount.name
terminationGracePeriodSeconds: shutdownMarginSeconds
volumes: extraVolumes
{{- range list "affinity" "dnsConfig" "dnsPolicy" "hostAliases" "imagePullSecrets" "initContainers" "nodeSelector" "priorityClassName" "runtimeClassName" "schedulerName" "tolerations" "topologySpreadConstraints" }}
{{ . }}: {{ . }}
{{- end }}
{{- end }}

{{- define "inventory-refresh.podProblems" -}}
{{- $problems := list -}}
{{- $fields := include "inventory-refresh.podFields" . | fromYaml -}}
{{- range $name := keys .Values.extraPodSpec | sortAlpha -}}
{{- if get $fields $name -}}
{{- $problems = append $problems (printf "extraPodSpec.%s: use the value %s instead" $name (get $fields $name)) -}}
{{- else if hasKey $fields $name -}}
{{- $problems = append $problems (printf "extraPodSpec.%s: cannot be changed" $name) -}}
{{- end -}}
{{- end -}}
{{- range $container := concat .Values.initContainers .Values.extraContainers -}}
{{- if eq $container.name "inventory-refresh" -}}
{{- $problems = append $problems "initContainers, extraContainers: inventory-refresh is the name of the service's own container; choose another" -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/* A member without partitions does nothing, and two autoscalers would undo each other's work. */}}
{{- define "inventory-refresh.replicaProblems" -}}
{{- $problems := list -}}
{{- $wanted := dict "replicaCount" .Values.replicaCount -}}
{{- if and .Values.keda.enabled .Values.hpa.enabled -}}
{{- $problems = append $problems "keda.enabled, hpa.enabled: enable only one of the two, because both set the number of replicas" -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- $wanted = dict "keda.maxReplicaCount" .Values.keda.maxReplicaCount -}}
{{- if gt (int .Values.keda.minReplicaCount) (int .Values.keda.maxReplicaCount) -}}
{{- $problems = append $problems (printf "keda.minReplicaCount: %v must be at most keda.maxReplicaCount (%v)" .Values.keda.minReplicaCount .Values.keda.maxReplicaCount) -}}
{{- end -}}
{{- else if .Values.hpa.enabled -}}
{{- $wanted = dict "hpa.maxReplicas" .Values.hpa.maxReplicas -}}
{{- if gt (int .Values.hpa.minReplicas) (int .Values.hpa.maxReplicas) -}}
{{- $problems = append $problems (printf "hpa.minReplicas: %v must be at most hpa.maxReplicas (%v)" .Values.hpa.minReplicas .Values.hpa.maxReplicas) -}}
{{- end -}}
{{- if not .Values.partitions -}}
{{- $problems = append $problems "partitions: must be set for hpa, which would otherwise start members that get no partition" -}}
{{- end -}}
{{- if not (or .Values.hpa.targetCPUUtilizationPercentage .Values.hpa.metrics) -}}
{{- $problems = append $problems "hpa: set targetCPUUtilizationPercentage or metrics" -}}
{{- end -}}
{{- end -}}
{{- range $name, $count := $wanted -}}
{{- if and $.Values.partitions (gt (int $count) (int $.Values.partitions)) -}}
{{- $problems = append $problems (printf "%s: %v must be at most partitions (%v), otherwise members are idle" $name $count $.Values.partitions) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.rollingUpdate.maxSurge .Values.rollingUpdate.maxUnavailable) -}}
{{- $problems = append $problems "rollingUpdate: maxSurge and maxUnavailable must not both be 0, otherwise no pod can be replaced" -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
